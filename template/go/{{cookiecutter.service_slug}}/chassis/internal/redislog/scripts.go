package redislog

import (
	"context"
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var sources embed.FS

type script struct{ source, sha string }

// scripts are those that every language shares, by name.
var scripts = sync.OnceValue(func() map[string]script {
	found := map[string]script{}
	files, _ := sources.ReadDir("lua")
	for _, file := range files {
		source, err := sources.ReadFile("lua/" + file.Name())
		if err != nil {
			panic(err) // they are a part of this program
		}
		sum := sha1.Sum(source)
		found[strings.TrimSuffix(file.Name(), ".lua")] = script{string(source), hex.EncodeToString(sum[:])}
	}
	return found
})

// Command is the EVALSHA of a script; Load must have brought it to the server.
func Command(name string, keys []string, args ...any) []any {
	command := make([]any, 0, 3+len(keys)+len(args))
	command = append(command, "EVALSHA", scripts()[name].sha, len(keys))
	for _, key := range keys {
		command = append(command, key)
	}
	return append(command, args...)
}

// Load lets the server have scripts, in one round trip.
func (l *Link) Load(ctx context.Context, names ...string) error {
	commands := make([][]any, len(names))
	for i, name := range names {
		commands[i] = []any{"SCRIPT", "LOAD", scripts()[name].source}
	}
	replies, err := l.Pipe(ctx, replyTimeout, commands...)
	if err != nil {
		return err
	}
	for _, reply := range replies {
		if err, failed := reply.(error); failed {
			return err
		}
	}
	return nil
}

// Script runs one and waits. After NOSCRIPT it loads it and runs it again: the server had not run
// it yet.
func (l *Link) Script(ctx context.Context, name string, keys []string, args ...any) ([]any, error) {
	command := Command(name, keys, args...)
	reply, err := l.Do(ctx, command...)
	if isNoScript(err) {
		if err := l.Load(ctx, name); err != nil {
			return nil, err
		}
		reply, err = l.Do(ctx, command...)
	}
	if err != nil {
		return nil, err
	}
	parts, ok := reply.([]any)
	if !ok {
		return nil, fmt.Errorf("the script %s has answered %v", name, reply)
	}
	return parts, nil
}

func isNoScript(err error) bool {
	answer := redis.Error(nil)
	return errors.As(err, &answer) && strings.HasPrefix(answer.Error(), "NOSCRIPT")
}
