package views

import (
	"errors"

	"google.golang.org/protobuf/proto"
)

// joined keeps a join: each left row with the right row it points to. A row that On or Combine
// fails for is left out, whatever was there before.
type joined struct {
	*Join
	left, right, out *rows
	pointing         map[string]map[string]struct{} // key in right → keys in left
}

func (j *Join) follow(t *tables) {
	keeps := &joined{j, t.of[j.Left], t.of[j.Right], t.of[j.Table], map[string]map[string]struct{}{}}
	keeps.left.listeners = append(keeps.left.listeners, keeps.leftChanged)
	keeps.right.listeners = append(keeps.right.listeners, keeps.rightChanged)
}

// target is the key that a left row points to, if it points to one.
type target struct {
	key string
	ok  bool
}

func (j *joined) targetOf(left proto.Message) (found target, err error) {
	if left != nil {
		err = try(func() { found.key, found.ok = j.On(left) })
	}
	if err != nil || !found.ok {
		found = target{}
	}
	return found, err
}

func (j *joined) leftChanged(key string, before, after proto.Message) error {
	was, _ := j.targetOf(before) // told when that row came; it pointed nowhere
	is, err := j.targetOf(after)
	if err != nil {
		after = nil
	}
	if was != is {
		if was.ok {
			delete(j.pointing[was.key], key)
			if len(j.pointing[was.key]) == 0 {
				delete(j.pointing, was.key)
			}
		}
		if is.ok {
			if j.pointing[is.key] == nil {
				j.pointing[is.key] = map[string]struct{}{}
			}
			j.pointing[is.key][key] = struct{}{}
		}
	}
	return errors.Join(err, j.combine(key, after, is))
}

func (j *joined) rightChanged(key string, _, _ proto.Message) error {
	var failures []error
	for leftKey := range j.pointing[key] {
		left, err := j.left.get(leftKey)
		failures = append(failures, err, j.combine(leftKey, left, target{key, true}))
	}
	return errors.Join(failures...)
}

func (j *joined) combine(key string, left proto.Message, to target) (err error) {
	var row proto.Message
	if left != nil {
		var right proto.Message
		if to.ok {
			if right, err = j.right.get(to.key); err != nil {
				return err
			}
		}
		if err = try(func() { row = j.Combine(left, right) }); err != nil {
			row = nil
		}
	}
	return errors.Join(err, j.out.put(key, row))
}

// aggregated keeps an aggregate: the old row is taken out of its group, the new one put in.
//
// A row that could not be put in is not taken out. The last one is taken out like any other:
// otherwise a Remove that fails would do so or not, depending on which row comes last.
type aggregated struct {
	*Aggregate
	out     *rows
	sizes   map[string]int
	leftOut map[string]struct{}
}

func (a *Aggregate) follow(t *tables) {
	keeps := &aggregated{a, t.of[a.Table], map[string]int{}, map[string]struct{}{}}
	source := t.of[a.Source]
	source.listeners = append(source.listeners, keeps.changed)
}

func (a *aggregated) changed(key string, before, after proto.Message) error {
	var taken, put error
	if _, out := a.leftOut[key]; before != nil && !out {
		taken = a.change(key, before, a.Remove, -1)
	}
	delete(a.leftOut, key)
	if after != nil {
		a.leftOut[key] = struct{}{}
		put = a.change(key, after, a.Add, +1)
	}
	return errors.Join(taken, put)
}

func (a *aggregated) change(key string, source proto.Message, do func(row, source proto.Message), by int) error {
	var group string
	var in bool
	if err := try(func() { group, in = a.By(source) }); err != nil {
		return err
	}
	if !in {
		delete(a.leftOut, key)
		return nil
	}
	row, err := a.out.get(group)
	if err != nil {
		return err
	}
	if row == nil {
		row = a.Table.Row.New().Interface()
	}
	if err := try(func() { do(row, source) }); err != nil {
		return err
	}
	delete(a.leftOut, key) // what fails from here on is derived from this table
	if a.sizes[group] += by; a.sizes[group] == 0 {
		delete(a.sizes, group)
		row = nil
	}
	return a.out.put(group, row)
}
