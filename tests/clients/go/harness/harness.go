// Package harness is what the Go client suites share: cases and their report, assertions that say what was found, and
// waiting with a deadline.
//
// A suite is a list of cases; Main runs them against the broker that --bootstrap names and prints a line for each, and
// last `N passed, N failed, N skipped`. It exits with 1 when a case failed. Each case makes topics and groups of its
// own, so that cases do not see each other and a broker with data in it serves as well as a new one.
package harness

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"
)

const caseTimeMax = 120 * time.Second

// Case is something that must hold; its name says what.
type Case struct {
	Name string
	Body func(*Run)
}

// Run is what a case gets: the broker, whether the long form is asked for, and a context that ends with its time.
type Run struct {
	context.Context
	Bootstrap string
	Full      bool
}

// Scale chooses a count: the first one in the short form, the second in the long one.
func (run *Run) Scale(short, long int) int {
	if run.Full {
		return long
	}
	return short
}

// failure is what Check panics with, so that a case ends there and its frames are still known.
type failure struct{ what string }

// skip is what Skip panics with.
type skip struct{ why string }

// Skip ends a case that does not apply.
func Skip(why string) { panic(skip{why}) }

// Main runs the cases and ends the process.
func Main(cases []Case) {
	bootstrap := flag.String("bootstrap", os.Getenv("HEADWATER_BOOTSTRAP"), "the broker, HOST:PORT")
	full := flag.Bool("full", false, "larger counts and more combinations")
	only := flag.String("only", "", "cases whose name contains the text")
	flag.Parse()
	if *bootstrap == "" {
		fmt.Fprintln(os.Stderr, "--bootstrap or HEADWATER_BOOTSTRAP names the broker")
		os.Exit(2)
	}
	counts := map[string]int{}
	for _, each := range cases {
		if !strings.Contains(each.Name, *only) {
			continue
		}
		start := time.Now()
		verdict, detail := result(each, *bootstrap, *full)
		counts[verdict]++
		fmt.Printf("%s %s (%.1f s)%s\n", verdict, each.Name, time.Since(start).Seconds(), detail)
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", counts["PASS"], counts["FAIL"], counts["SKIP"])
	if counts["FAIL"] > 0 || counts["PASS"] == 0 {
		os.Exit(1)
	}
}

// result runs one case. A case that does not return in time is left behind: a client that hangs on a broken broker must
// not hang the suite.
func result(each Case, bootstrap string, full bool) (verdict, detail string) {
	// Asked first: once the broker is gone, the rest need not wait for their clients to notice.
	connection, err := net.DialTimeout("tcp", bootstrap, 5*time.Second)
	if err != nil {
		return "FAIL", fmt.Sprintf(": nothing listens at %s: %v", bootstrap, err)
	}
	connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), caseTimeMax)
	defer cancel()
	ended := make(chan any, 1)
	go func() {
		defer func() {
			found := recover()
			if _, expected := found.(skip); found != nil && !expected {
				fmt.Printf("%v\n%s\n", found, debug.Stack())
			}
			ended <- found
		}()
		each.Body(&Run{Context: ctx, Bootstrap: bootstrap, Full: full})
	}()
	select {
	case found := <-ended:
		switch found := found.(type) {
		case nil:
			return "PASS", ""
		case skip:
			return "SKIP", ": " + found.why
		case failure:
			return "FAIL", ": " + found.what
		default:
			return "FAIL", fmt.Sprintf(": panic: %v", found)
		}
	case <-time.After(caseTimeMax + 5*time.Second):
		return "FAIL", fmt.Sprintf(": not done after %v", caseTimeMax)
	}
}

// Name is a new name for a topic or a group.
func Name(what string) string {
	random := make([]byte, 4)
	Must(rand.Read(random))
	return what + "-" + hex.EncodeToString(random)
}

// Check ends the case unless the condition holds.
func Check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(failure{fmt.Sprintf(format, arguments...)})
	}
}

// Ok ends the case when there is an error.
func Ok(err error, what string) {
	Check(err == nil, "%s: %v", what, err)
}

// Must returns the value; an error ends the case.
func Must[T any](value T, err error) T {
	Check(err == nil, "%v", err)
	return value
}

// Equal compares what was found with what was wanted.
func Equal(found, wanted any, what string) {
	Check(reflect.DeepEqual(found, wanted), "%s: found %s, wanted %s", what, brief(found), brief(wanted))
}

// Fails checks that it is this error.
func Fails(err, wanted error, what string) {
	Check(errors.Is(err, wanted), "%s: found error %v, wanted %v", what, err, wanted)
}

// Same compares one by one, so that a failure names the first that differs.
func Same[T any](found, wanted []T, what string) {
	for i := range min(len(found), len(wanted)) {
		Equal(found[i], wanted[i], fmt.Sprintf("%s, number %d", what, i))
	}
	Equal(len(found), len(wanted), what+", how many")
}

// Until waits until the condition holds.
func Until(run *Run, what string, holds func() bool) {
	UntilWithin(run, 30*time.Second, what, holds)
}

// UntilWithin waits for at most this long until the condition holds.
func UntilWithin(run *Run, limit time.Duration, what string, holds func() bool) {
	deadline := time.Now().Add(limit)
	for !holds() {
		Check(time.Now().Before(deadline) && run.Err() == nil, "%s: not within %v", what, limit)
		time.Sleep(20 * time.Millisecond)
	}
}

func brief(value any) string {
	text := fmt.Sprintf("%+v", value)
	if len(text) <= 300 {
		return text
	}
	return fmt.Sprintf("%s... (%d characters)", text[:300], len(text))
}
