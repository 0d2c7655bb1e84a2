package redislog

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// duplex takes a link over: commands go out while replies to earlier ones are still to come, which
// go-redis' connections do not. Whoever sends and whoever receives may be two goroutines.
type duplex struct {
	link    *Link
	reader  *bufio.Reader
	writer  *bufio.Writer
	timeout time.Duration // of the replies that are waited for
	found   texts
}

const readBuffer, writeBuffer = 32 << 10, 64 << 10

// replyError is an error that the server has answered.
type replyError string

func (e replyError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (e replyError) RedisError() {}

func (l *Link) duplex() *duplex {
	_ = l.socket.SetDeadline(time.Time{}) // that of the last command
	return &duplex{
		link:   l,
		reader: bufio.NewReaderSize(l.socket, readBuffer),
		writer: bufio.NewWriterSize(l.socket, writeBuffer),
	}
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

// within is how long all replies may take that are received from now on; without it they have any
// time, until the link is closed.
func (d *duplex) within(timeout time.Duration) {
	d.timeout = timeout
	_ = d.link.socket.SetReadDeadline(time.Now().Add(timeout))
}

// receive waits for the next reply.
func (d *duplex) receive() (any, error) {
	if err := d.asked(); err != nil {
		return nil, err
	}
	reply, err := d.reply()
	return reply, d.judge(err)
}

// asked takes the reply to the ASKING before a command.
func (d *duplex) asked() error {
	if !d.link.asking {
		return nil
	}
	_, err := d.reply()
	return d.judge(err)
}

// judge is what err, instead of a reply, means for whoever waits for it.
func (d *duplex) judge(err error) error {
	var failed replyError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed):
		if reason := d.link.elsewhere(string(failed)); reason != "" {
			return d.link.end(&LinkLost{Reason: reason, answer: string(failed)})
		}
		return failed
	case isTimeout(err):
		return d.link.lose(fmt.Sprintf("no reply within %g s", d.timeout.Seconds()))
	}
	return d.link.end(lostBy(err))
}

// maxReply is more than any reply of the append path has.
const maxReply = 512 << 20

// reply is the next one; an error of the server is the error here.
func (d *duplex) reply() (any, error) {
	kind, text, err := d.line()
	if err != nil {
		return nil, err
	}
	switch kind {
	case '+':
		return string(text), nil
	case '-':
		return nil, replyError(text)
	}
	number, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || kind != ':' && number > maxReply {
		return nil, notRedis(kind, text)
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
			if failed := replyError(""); errors.As(err, &failed) { // in its place; others are to come
				part, err = failed, nil
			}
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		return parts, nil
	}
	return nil, notRedis(kind, text)
}

// line is valid until something more is read.
func (d *duplex) line() (kind byte, text []byte, err error) {
	line, err := d.reader.ReadSlice('\n')
	if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
		return 0, nil, err
	}
	if err != nil || len(line) < 3 || line[len(line)-2] != '\r' {
		return 0, nil, fmt.Errorf("not Redis' protocol: %.80q", line)
	}
	return line[0], line[1 : len(line)-2], nil
}

func notRedis(kind byte, text []byte) error {
	return fmt.Errorf("not Redis' protocol: %.80q", string(kind)+string(text))
}
