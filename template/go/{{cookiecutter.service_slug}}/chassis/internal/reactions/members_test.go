package reactions

import (
	"maps"
	"slices"
	"testing"
	"time"

	"factfold/chassis/internal/wire"
)

func TestAMemberThatIsSilentForTenLeasesIsForgotten(t *testing.T) {
	d := newDesk(t)
	m := &membership{
		redis: d.redis, instance: "desk-here", key: wire.Members("payments", "desk.book"),
		lease: time.Minute, silence: silence{},
	}
	for member, leases := range map[string]int{"desk-lives": 0, "desk-silent": 9, "desk-forgotten": 11} {
		d.do("HSET", m.key, member, 1)
		m.silence[member] = sighting{"1", time.Now().Add(-time.Duration(leases) * m.lease)}
	}
	links := d.redis.Links()
	defer links.Close()
	if err := m.look(t.Context(), links); err != nil {
		t.Fatal(err)
	}
	slices.Sort(m.alive)
	equal(t, m.alive, []string{"desk-here", "desk-lives"})
	equal(t, slices.Sorted(maps.Keys(d.hash(m.key))), []string{"desk-here", "desk-lives", "desk-silent"})
}
