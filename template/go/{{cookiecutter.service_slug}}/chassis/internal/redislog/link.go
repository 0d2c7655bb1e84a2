package redislog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	connectTimeout = 2 * time.Second
	replyTimeout   = 5 * time.Second

	closed = "the connection is closed"
)

// ErrLost is in the chain of every error by which a connection is gone, or its server cannot answer
// now: errors.Is(err, redislog.ErrLost). Later there may be another connection.
var ErrLost = errors.New("the connection is lost")

// LinkLost says in one clause why a connection is gone.
type LinkLost struct {
	Reason string
	NoLink bool   // there was none in the first place
	answer string // of the server, if that has ended it
	cause  error  // of the socket
}

func (e *LinkLost) Error() string { return e.Reason }

// Unwrap lets errors.Is find ErrLost.
func (e *LinkLost) Unwrap() []error {
	if e.cause == nil {
		return []error{ErrLost}
	}
	return []error{ErrLost, e.cause}
}

// Link is one connection to one server. Commands go out in order. What fails without a reply ends
// it: nothing is sent twice, as that is for callers to decide.
type Link struct {
	client *redis.Client
	conn   *redis.Conn
	socket net.Conn
	at     string
	// What a server's answer means by which what it was asked for is elsewhere; nil: what it says.
	redirected func(answer string) string
	asking     bool // the server is asked for keys of a slot that is not its own yet

	mutex sync.Mutex
	gone  *LinkLost
}

// Do sends one command and waits for its reply: string, int64, nil, or []any of these.
// An error is a redis.Error if it is the server's answer, has ErrLost in its chain if the
// connection is gone, and is that of ctx if ctx has ended.
func (l *Link) Do(ctx context.Context, args ...any) (any, error) {
	return l.do(ctx, replyTimeout, args...)
}

func (l *Link) do(ctx context.Context, timeout time.Duration, args ...any) (any, error) {
	replies, err := l.Pipe(ctx, timeout, args)
	if err != nil {
		return nil, err
	}
	if err, failed := replies[0].(error); failed {
		return nil, err
	}
	return replies[0], nil
}

// Pipe sends commands at once; the replies are in their order, an error reply stands in its place
// as a redis.Error. Without all replies in time the connection is given up.
func (l *Link) Pipe(ctx context.Context, timeout time.Duration, commands ...[]any) ([]any, error) {
	if err := l.Lost(); err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	// go-redis looks at deadlines alone: whoever cancels does not wait for a blocking read.
	defer context.AfterFunc(ctx, l.Close)()

	pipe := l.conn.Pipeline()
	sent := make([]*redis.Cmd, len(commands))
	for i, args := range commands {
		if l.asking {
			pipe.Do(limited, "ASKING")
		}
		sent[i] = pipe.Do(limited, args...)
	}
	_, failed := pipe.Exec(limited)
	replies := make([]any, len(commands))
	for i, command := range sent {
		reply, err := command.Result()
		if err != nil {
			failed = nil // each command has its own error, unless the login has failed
		}
		if answer := redis.Error(nil); errors.As(err, &answer) {
			err = nil
			if !errors.Is(answer, redis.Nil) {
				if reason := l.elsewhere(answer.Error()); reason != "" {
					return nil, l.end(&LinkLost{Reason: reason, answer: answer.Error()})
				}
				reply = answer
			}
		}
		if err != nil {
			return nil, l.lost(ctx, limited, timeout, err)
		}
		replies[i] = reply
	}
	if failed != nil {
		return nil, l.lost(ctx, limited, timeout, failed)
	}
	return replies, nil
}

// lost ends the connection: err came instead of a reply.
func (l *Link) lost(ctx, limited context.Context, timeout time.Duration, err error) error {
	if isTimeout(err) {
		<-limited.Done() // the socket's deadline is the same, and may be noticed earlier
	}
	why := lostBy(err)
	if limited.Err() != nil {
		why.Reason = fmt.Sprintf("no reply within %g s", timeout.Seconds())
	}
	gone := l.end(why)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return gone
}

func lostBy(err error) *LinkLost {
	if errors.Is(err, io.EOF) {
		return &LinkLost{Reason: closed, cause: err}
	}
	return &LinkLost{Reason: err.Error(), cause: err}
}

// elsewhere is why a server's answer ends the connection; empty if it does not.
func (l *Link) elsewhere(answer string) string {
	word, _, _ := strings.Cut(answer, " ")
	switch word {
	case "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "READONLY":
		if l.redirected != nil {
			return l.redirected(answer)
		}
		return answer
	case "LOADING", "MASTERDOWN", "NOAUTH", "WRONGPASS":
		return answer
	}
	if strings.HasPrefix(answer, "ERR max number of clients reached") {
		return answer
	}
	return ""
}

// Lost is why the connection is gone; nil as long as nobody knows that it is.
func (l *Link) Lost() error {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	if l.gone == nil {
		return nil
	}
	return l.gone
}

func (l *Link) lose(reason string) error { return l.end(&LinkLost{Reason: reason}) }

// end returns why the link is lost: what was first.
func (l *Link) end(why *LinkLost) error {
	l.mutex.Lock()
	if l.gone == nil {
		l.gone = why
	}
	gone := l.gone
	l.mutex.Unlock()
	_ = l.socket.Close()
	_ = l.client.Close()
	return gone
}

// Close ends the connection, and whatever waits for it; it may be called more than once.
func (l *Link) Close() { _ = l.lose(closed) }

// login is what a server is told of who comes.
type login struct {
	username, password string
	db                 int
}

// open connects to one server.
func open(
	ctx context.Context, at string, its URL, who login, redirected func(answer string) string,
) (*Link, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	socket, err := dial(ctx, at, its)
	if err != nil {
		return nil, noLink(ctx, at, its, err)
	}
	link := &Link{socket: socket, at: at, redirected: redirected}
	link.client = redis.NewClient(&redis.Options{
		Addr:                     at,
		Username:                 who.username,
		Password:                 who.password,
		DB:                       who.db,
		Protocol:                 2,
		MaxRetries:               -1,
		PoolSize:                 1,
		ReadTimeout:              -1, // contexts have the times
		WriteTimeout:             -1,
		ConnMaxIdleTime:          -1,
		ContextTimeoutEnabled:    true,
		DisableIdentity:          true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return socket, nil
		},
	})
	link.conn = link.client.Conn()
	// It logs in with its first command. Whatever the answer, somebody is there who answers.
	if _, err := link.do(ctx, connectTimeout, "PING"); err != nil {
		link.Close()
		if errors.Is(err, ErrLost) || ctx.Err() != nil {
			return nil, noLink(ctx, at, its, err)
		}
	}
	return link, nil
}

func noLink(ctx context.Context, at string, its URL, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	reason := its.tlsReason(err)
	if reason == "" && (ctx.Err() != nil || isTimeout(err)) {
		reason = fmt.Sprintf("%s did not answer within %g s", at, connectTimeout.Seconds())
	}
	if reason == "" {
		reason = err.Error()
	}
	return &LinkLost{Reason: reason, NoLink: true}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
