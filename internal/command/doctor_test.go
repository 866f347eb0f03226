package command

import (
	"bufio"
	"bytes"
	"math"
	"testing"

	"usher/internal/doctor"
)

// TestFindingsFit: on a narrow terminal, what a finding means has a line of its own.
func TestFindingsFit(t *testing.T) {
	t.Parallel()
	found := []doctor.Finding{
		{Level: doctor.Low, Item: "pipes", Is: "none", Means: "usher copies", Change: []string{"sysctl x=1"}},
		{Level: doctor.OK, Item: "clock", Is: "tsc"},
	}
	for width, want := range map[int]string{
		math.MaxInt: "LEVEL  ITEM   IS    MEANS\nlow    pipes  none  usher copies\n       > sysctl x=1\nok     clock  tsc   -\n",
		32:          "LEVEL  ITEM   IS    MEANS\nlow    pipes  none  usher copies\n       > sysctl x=1\nok     clock  tsc   -\n",
		31: "LEVEL  ITEM   IS\n       MEANS\nlow    pipes  none\n       usher copies\n       > sysctl x=1\n" +
			"ok     clock  tsc\n       -\n",
	} {
		var b bytes.Buffer
		if err := writeFindings(bufio.NewWriter(&b), found, width); err != nil || b.String() != want {
			t.Errorf("width %d: %v\n%swant\n%s", width, err, &b, want)
		}
	}
}
