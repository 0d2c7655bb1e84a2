package handlers_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"factfold/chassis"
	"factfold/chassis/testing/chassistest"

	contract "service/gen/{{cookiecutter.__package_path}}"
	"service/internal/app"
)

func publish(t *testing.T, running *chassistest.Running, count int) []string {
	t.Helper()
	ids := make([]string, count)
	for i := range ids {
		ids[i] = fmt.Sprintf("%04d", i)
		running.Publish(t.Context(), &contract.{{cookiecutter.__go_aggregate}}Created{Id: ids[i]}, chassis.At(0))
	}
	return ids
}

func TestPagesHoldEachItemOnce(t *testing.T) {
	running, client := run(t)
	ids := publish(t, running, 5)
	var seen []string
	page := &contract.List{{cookiecutter.__go_plural}}Response{}
	for range 3 {
		var err error
		page, err = client.List{{cookiecutter.__go_plural}}(t.Context(), &contract.List{{cookiecutter.__go_plural}}Request{
			PageSize:  2,
			PageToken: page.GetNextPageToken(),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, item := range page.GetItems() {
			seen = append(seen, item.GetId())
		}
	}
	slices.Sort(seen)
	if !slices.Equal(seen, ids) || page.GetNextPageToken() != "" {
		t.Errorf("the pages have %q, and the last one the token %q", seen, page.GetNextPageToken())
	}
	if !strings.Contains(page.GetPosition(), app.Name+"/") {
		t.Errorf("the position is %q", page.GetPosition())
	}
}

func TestAPageHasAUsualAndALargestSize(t *testing.T) {
	running, client := run(t)
	publish(t, running, 1001)
	for asked, got := range map[int32]int{0: 50, 5000: 1000} {
		page, err := client.List{{cookiecutter.__go_plural}}(t.Context(), &contract.List{{cookiecutter.__go_plural}}Request{PageSize: asked})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.GetItems()) != got || page.GetNextPageToken() == "" {
			t.Errorf("a page of %d has %d items, then %q", asked, len(page.GetItems()), page.GetNextPageToken())
		}
	}
}

func TestWrongFieldsOfAListAreNamed(t *testing.T) {
	_, client := run(t)
	_, err := client.List{{cookiecutter.__go_plural}}(t.Context(), &contract.List{{cookiecutter.__go_plural}}Request{PageSize: -1})
	refused(t, err, codes.InvalidArgument, "page_size")
	_, err = client.List{{cookiecutter.__go_plural}}(t.Context(), &contract.List{{cookiecutter.__go_plural}}Request{PageToken: "no token!"})
	refused(t, err, codes.InvalidArgument, "page_token")
}
