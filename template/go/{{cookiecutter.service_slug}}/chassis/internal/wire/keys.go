// Package wire has facts, positions, keys and ids as they look on the wire, the same way in every
// language.
package wire

import (
	"hash/crc32"
	"strconv"
)

// PartitionOf is the partition of a key: CRC-32 (IEEE 802.3) of its bytes, modulo partitions.
func PartitionOf(key string, partitions int) int {
	return int(crc32.ChecksumIEEE([]byte(key)) % uint32(partitions))
}

// Keys are those of one partition; the braces put them into one slot of a cluster.
type Keys struct{ prefix string }

// KeysOf are the keys of this partition.
func KeysOf(stream string, partition int) Keys {
	return Keys{"{" + stream + "/" + strconv.Itoa(partition) + "}:"}
}

// Log has the facts.
func (k Keys) Log() string { return k.prefix + "log" }

// Head says how many facts there are, and of which epoch.
func (k Keys) Head() string { return k.prefix + "head" }

// Producers has the outcomes of the last appends.
func (k Keys) Producers() string { return k.prefix + "producers" }

// Versions has the version of each key.
func (k Keys) Versions() string { return k.prefix + "versions" }

// Nobody is a key that is never there.
func (k Keys) Nobody() string { return k.prefix + "nobody" }

// Group says how far a reaction is, and who owns it.
func (k Keys) Group(group string) string { return k.prefix + "group:" + group }

// Outbox has what a reaction has settled and not committed.
func (k Keys) Outbox(group string) string { return k.prefix + "outbox:" + group }

// Dead has the dead letters of a reaction.
func (k Keys) Dead(group string) string { return k.prefix + "dead:" + group }

// DeadKeys has the numbers of a reaction's dead letters by key.
func (k Keys) DeadKeys(group string) string { return k.prefix + "dead-keys:" + group }

// Redrive has what operators ask of dead letters.
func (k Keys) Redrive(group string) string { return k.prefix + "redrive:" + group }

// Cursors says where the instances of a reader, service.view, are.
func (k Keys) Cursors(reader string) string { return k.prefix + "cursors:" + reader }

// Appending are the keys of the scripts create and append.
func (k Keys) Appending() []string {
	return []string{k.Log(), k.Head(), k.Producers(), k.Versions()}
}

// Members has the processes that share a reaction of the stream.
func Members(stream, group string) string { return "{" + stream + "}:members:" + group }
