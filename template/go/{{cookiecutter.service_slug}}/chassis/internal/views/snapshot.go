package views

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"iter"
	"os"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	factfoldv1 "factfold/chassis/factfold/v1"
	"factfold/chassis/internal/redislog"
	"factfold/chassis/internal/wire"
)

const (
	snapshotMagic  = "FACTFOLD"
	snapshotFormat = 1
	partKeys       = 1000 // of one part, at most
	partBytes      = 1 << 20
)

// positions are, by stream and partition, the epoch and the last fact folded.
type positions map[placeKey]mark

type mark struct {
	epoch  string
	anchor redislog.Anchor
}

// same says whether both are of the same facts.
func (p positions) same(other positions) bool {
	if len(p) != len(other) {
		return false
	}
	for key, at := range p {
		if there, ok := other[key]; !ok || there.epoch != at.epoch || there.anchor.ID != at.anchor.ID {
			return false
		}
	}
	return true
}

// snapshot is a view at one moment.
type snapshot struct {
	positions positions
	rows      map[*Table]*tree[[]byte] // of the tables that folds write
	requests  requests
	failures  uint64 // facts that a fold failed on
}

func (s *snapshot) size() (rows int) {
	for _, of := range s.rows {
		rows += of.size
	}
	return rows
}

// kind is what a file must be for to be used.
type kind struct {
	service, view string
	fingerprint   []byte
}

func (k kind) fits(header *factfoldv1.SnapshotHeader) bool {
	return header.Format == snapshotFormat && header.Service == k.service && header.View == k.view &&
		header.Language == language && bytes.Equal(header.Fingerprint, k.fingerprint)
}

// Writing.

func writeSnapshot(ctx context.Context, file io.Writer, its kind, s *snapshot) error {
	digest := sha256.New()
	buffered := bufio.NewWriterSize(file, partBytes)
	sink := io.MultiWriter(buffered, digest)
	put := func(part *factfoldv1.SnapshotPart) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, err := protodelim.MarshalTo(sink, part)
		return err
	}
	header := &factfoldv1.SnapshotHeader{
		Format: snapshotFormat, Service: its.service, View: its.view, Language: language,
		Fingerprint: its.fingerprint, Failures: s.failures,
	}
	for key, at := range s.positions {
		header.Positions = append(header.Positions, &factfoldv1.SnapshotPosition{
			Stream: key.stream, Partition: uint32(key.partition), Epoch: at.epoch,
			Ms: at.anchor.ID.Ms, N: at.anchor.ID.N, FactId: []byte(at.anchor.FactID),
		})
	}
	if _, err := io.WriteString(sink, snapshotMagic); err != nil {
		return err
	}
	if err := put(&factfoldv1.SnapshotPart{
		Part: &factfoldv1.SnapshotPart_Header{Header: header},
	}); err != nil {
		return err
	}
	for table, rows := range s.rows {
		if err := writeRows(table.Name, rows, put); err != nil {
			return err
		}
	}
	for stream, known := range s.requests {
		if err := writeRequests(stream, known, put); err != nil {
			return err
		}
	}
	if _, err := buffered.Write(digest.Sum(nil)); err != nil {
		return err
	}
	return buffered.Flush()
}

func writeRows(table string, rows *tree[[]byte], put func(*factfoldv1.SnapshotPart) error) error {
	for keys, some := range portions(rows, func(row []byte) int { return len(row) }) {
		part := &factfoldv1.SnapshotRows{Table: table, Keys: keys, Rows: some}
		err := put(&factfoldv1.SnapshotPart{Part: &factfoldv1.SnapshotPart_Rows{Rows: part}})
		if err != nil {
			return err
		}
	}
	return nil
}

func writeRequests(stream string, known *tree[answers], put func(*factfoldv1.SnapshotPart) error) error {
	for keys, some := range portions(known, answers.size) {
		part := &factfoldv1.SnapshotRequests{Stream: stream, Keys: keys}
		for _, facts := range some {
			part.Counts = append(part.Counts, uint32(len(facts)))
			for _, fact := range facts {
				part.RequestIds = append(part.RequestIds, fact.requestID)
				part.EntryIds = append(part.EntryIds, []byte(fact.id.String()))
			}
		}
		err := put(&factfoldv1.SnapshotPart{Part: &factfoldv1.SnapshotPart_Requests{Requests: part}})
		if err != nil {
			return err
		}
	}
	return nil
}

// portions are keys and values, as many as a part takes.
func portions[V any](of *tree[V], sizeOf func(V) int) iter.Seq2[[]string, []V] {
	return func(yield func([]string, []V) bool) {
		var keys []string
		var values []V
		size := 0
		for key, value := range of.all("") {
			more := sizeOf(value)
			if len(keys) == partKeys || size > 0 && size+more > partBytes {
				if !yield(keys, values) {
					return
				}
				keys, values, size = nil, nil, 0
			}
			keys, values, size = append(keys, key), append(values, value), size+more
		}
		if len(keys) > 0 {
			yield(keys, values)
		}
	}
}

// Reading.

// parts reads a file whose checksum is right. The header comes first.
type parts struct {
	ctx    context.Context
	file   *os.File
	size   int64 // of all parts
	source *bufio.Reader
	left   *io.LimitedReader
}

// openSnapshot looks at the whole file before anything of it is believed.
func openSnapshot(ctx context.Context, path string) (*parts, *factfoldv1.SnapshotHeader, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	p := &parts{ctx: ctx, file: file}
	header, err := p.begin()
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return p, header, nil
}

func (p *parts) begin() (*factfoldv1.SnapshotHeader, error) {
	info, err := p.file.Stat()
	if err != nil {
		return nil, err
	}
	p.size = info.Size() - sha256.Size - int64(len(snapshotMagic))
	magic := make([]byte, len(snapshotMagic))
	if _, err := io.ReadFull(p.file, magic); damage(err) || p.size < 0 || string(magic) != snapshotMagic {
		return nil, errors.New("it does not begin as a snapshot")
	} else if err != nil {
		return nil, err
	}
	digest := sha256.New()
	digest.Write(magic)
	if err := p.sum(digest); err != nil {
		return nil, err
	}
	if _, err := p.file.Seek(int64(len(magic)), io.SeekStart); err != nil {
		return nil, err
	}
	p.left = &io.LimitedReader{R: p.file, N: p.size}
	p.source = bufio.NewReaderSize(p.left, partBytes)
	part, err := p.next()
	if err != nil {
		return nil, err
	}
	if part.GetHeader() == nil {
		return nil, errors.New("it has no header")
	}
	return part.GetHeader(), nil
}

func (p *parts) sum(digest hash.Hash) error {
	for size := p.size; size > 0; {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		n, err := io.CopyN(digest, p.file, min(size, partBytes))
		if err != nil && !damage(err) {
			return err
		}
		if n == 0 {
			break
		}
		size -= n
	}
	sum, err := io.ReadAll(p.file)
	if err != nil {
		return err
	}
	if !bytes.Equal(sum, digest.Sum(nil)) {
		return errors.New("its checksum is wrong")
	}
	return nil
}

// next is the next part; nil behind the last one.
func (p *parts) next() (*factfoldv1.SnapshotPart, error) {
	if err := p.ctx.Err(); err != nil {
		return nil, err
	}
	if p.left.N == 0 && p.source.Buffered() == 0 {
		return nil, nil
	}
	part := &factfoldv1.SnapshotPart{}
	options := protodelim.UnmarshalOptions{MaxSize: p.size}
	if err := options.UnmarshalFrom(p.source, part); err != nil {
		if damage(err) {
			err = errors.New("a part is missing")
		}
		return nil, err
	}
	return part, nil
}

func (p *parts) close() { p.file.Close() }

// damage tells a file that ends too early from one that cannot be read.
func damage(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// assemble reads all parts behind the header.
func (p *parts) assemble(view *View, header *factfoldv1.SnapshotHeader) (*snapshot, error) {
	s := &snapshot{
		positions: positionsOf(header), rows: map[*Table]*tree[[]byte]{}, requests: requests{},
		failures: header.Failures,
	}
	named := map[string]*Table{}
	for _, table := range view.folded() {
		named[table.Name], s.rows[table] = table, &tree[[]byte]{}
	}
	for {
		part, err := p.next()
		if err != nil {
			return nil, err
		}
		if part == nil {
			return s, nil
		}
		table := named[part.GetRows().GetTable()]
		switch {
		case part.GetRequests() != nil:
			err = s.takeRequests(part.GetRequests())
		case part.GetRows() != nil && table != nil:
			err = s.takeRows(table, part.GetRows())
		default:
			err = errors.New("it has a part that nobody knows")
		}
		if err != nil {
			return nil, err
		}
	}
}

func (s *snapshot) takeRows(table *Table, part *factfoldv1.SnapshotRows) error {
	if len(part.Keys) != len(part.Rows) {
		return errors.New("it has keys without rows")
	}
	row := table.Row.New().Interface()
	for i, key := range part.Keys {
		// It fails now, and not when somebody asks for it.
		if err := proto.Unmarshal(part.Rows[i], row); err != nil {
			return fmt.Errorf("a row of table %s: %w", table.Name, err)
		}
		s.rows[table].set(key, part.Rows[i])
	}
	return nil
}

func (s *snapshot) takeRequests(part *factfoldv1.SnapshotRequests) error {
	of := s.requests[part.Stream]
	if of == nil {
		of = &tree[answers]{}
		s.requests[part.Stream] = of
	}
	if len(part.Keys) != len(part.Counts) || len(part.RequestIds) != len(part.EntryIds) {
		return errors.New("it has request ids without facts")
	}
	at := 0
	for i, key := range part.Keys {
		end := at + int(part.Counts[i])
		if end > len(part.RequestIds) {
			return errors.New("it has request ids without facts")
		}
		facts := make(answers, 0, end-at)
		for ; at < end; at++ {
			id, err := wire.ParseID(string(part.EntryIds[at]))
			if err != nil {
				return err
			}
			facts = append(facts, answer{part.RequestIds[at], id})
		}
		of.set(key, facts)
	}
	return nil
}

func positionsOf(header *factfoldv1.SnapshotHeader) positions {
	found := positions{}
	for _, at := range header.Positions {
		found[placeKey{at.Stream, int(at.Partition)}] = mark{at.Epoch, redislog.Anchor{
			ID: wire.ID{Ms: at.Ms, N: at.N}, FactID: string(at.FactId),
		}}
	}
	return found
}
