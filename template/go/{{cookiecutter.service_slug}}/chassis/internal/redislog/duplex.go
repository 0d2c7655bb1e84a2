package redislog

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"time"
)

// duplex takes a link over: commands go out while replies to earlier ones are still to come, which
// go-redis' connections do not. Whoever sends and whoever receives may be two goroutines.
type duplex struct {
	link   *Link
	reader *bufio.Reader
	writer *bufio.Writer
}

// replyError is an error that the server has answered.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (e replyError) RedisError() {}

func (l *Link) duplex() *duplex {
	_ = l.socket.SetDeadline(time.Time{}) // that of the last command
	return &duplex{l, bufio.NewReader(l.socket), bufio.NewWriterSize(l.socket, 64<<10)}
}

// send writes commands, and does not wait for replies.
func (d *duplex) send(commands ...[]any) error {
	_ = d.link.socket.SetWriteDeadline(time.Now().Add(replyTimeout))
	for _, command := range commands {
		if d.link.asking {
			d.write([]any{"ASKING"})
		}
		d.write(command)
	}
	err := d.writer.Flush()
	if isTimeout(err) {
		return d.link.lose(fmt.Sprintf("it took nothing more for %g s", replyTimeout.Seconds()))
	}
	if err != nil {
		return d.link.end(lostBy(err))
	}
	return nil
}

// write needs no errors: the writer keeps the first one for Flush.
func (d *duplex) write(command []any) {
	d.head('*', len(command))
	for _, part := range command {
		switch value := part.(type) {
		case string:
			d.head('$', len(value))
			_, _ = d.writer.WriteString(value)
		case []byte:
			d.head('$', len(value))
			_, _ = d.writer.Write(value)
		default:
			text := fmt.Sprint(value) // numbers
			d.head('$', len(text))
			_, _ = d.writer.WriteString(text)
		}
		_, _ = d.writer.WriteString("\r\n")
	}
}

func (d *duplex) head(kind byte, size int) {
	_ = d.writer.WriteByte(kind)
	_, _ = d.writer.WriteString(strconv.Itoa(size))
	_, _ = d.writer.WriteString("\r\n")
}

// receive waits for the next reply, until the link is closed.
func (d *duplex) receive() (any, error) {
	if d.link.asking {
		if _, err := d.reply(); err != nil {
			return nil, d.link.end(lostBy(err))
		}
	}
	reply, err := d.reply()
	if err != nil {
		return nil, d.link.end(lostBy(err))
	}
	if failed, ok := reply.(replyError); ok {
		if reason := d.link.elsewhere(string(failed)); reason != "" {
			return nil, d.link.end(&LinkLost{Reason: reason, answer: string(failed)})
		}
		return nil, failed
	}
	return reply, nil
}

// maxReply is more than any reply of the append path has.
const maxReply = 512 << 20

func (d *duplex) reply() (any, error) {
	line, err := d.reader.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if len(line) < 3 || line[len(line)-2] != '\r' {
		return nil, fmt.Errorf("not Redis' protocol: %.80q", line)
	}
	kind, text := line[0], line[1:len(line)-2]
	switch kind {
	case '+':
		return text, nil
	case '-':
		return replyError(text), nil
	}
	number, err := strconv.ParseInt(text, 10, 64)
	if err != nil || kind != ':' && number > maxReply {
		return nil, fmt.Errorf("not Redis' protocol: %.80q", line)
	}
	switch {
	case kind == ':':
		return number, nil
	case number < 0:
		return nil, nil
	case kind == '$':
		data := make([]byte, number+2)
		_, err := io.ReadFull(d.reader, data)
		return string(data[:number]), err
	case kind == '*':
		var parts []any
		for range number {
			part, err := d.reply()
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		return parts, nil
	}
	return nil, fmt.Errorf("not Redis' protocol: %.80q", line)
}
