// Playing schedules: in random order, exhaustively, and shortened.
package main

import (
	"flag"
	"fmt"
	"hash/maphash"
	"math/bits"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// replay does what it can of a schedule, then settles it in several orders if no safety property broke.
func replay(left [faultKinds]int8, path []Action, settles int) (done []Action, bad string) {
	s := newState(left)
	for _, x := range path {
		fit := Action{op: -1}
		for _, y := range s.enabled(nil, false) {
			loose := y.op == x.op && (y.a == x.a && x.op != opLand || x.op == opLand && y.b == x.b || x.op == opProject)
			if y == x || fit.op < 0 && loose && (x.op == opAnnounce || x.op == opCommitCommands || x.op == opCommitEvents || x.op == opLand || x.op == opProject) {
				if fit = y; y == x {
					break
				}
			}
		}
		if fit.op < 0 {
			continue
		}
		done = append(done, fit)
		if bad = s.do(fit); bad != "" {
			return
		}
	}
	for k := range settles {
		if _, bad = s.settle(rand.New(rand.NewPCG(uint64(k), 7))); bad != "" {
			return
		}
	}
	return
}

// shrink leaves out actions as long as the same property breaks.
func shrink(left [faultKinds]int8, path []Action, bad string) []Action {
	settles := 0
	if bad[0] == 'L' {
		settles = 30
	}
	for size := len(path) / 2; size >= 1; {
		cut := false
		for at := len(path) - size; at >= 0; at -= size {
			shorter := append(append([]Action{}, path[:at]...), path[at+size:]...)
			if done, b := replay(left, shorter, settles); b == bad && len(done) < len(path) {
				path, cut = done, true
				at = min(at, len(path))
			}
		}
		if !cut || size > 1 {
			if size == 1 {
				break
			}
			size /= 2
		}
	}
	return path
}

func show(left [faultKinds]int8, path []Action) {
	s := newState(left)
	for _, x := range path {
		switch who := fmt.Sprintf("W%d ", x.a); x.op {
		case opLand, opDup, opLose:
			fmt.Printf("    %s %s\n", describe(s.fly[x.a]), names[x.op])
		case opProject, opRestore:
			fmt.Printf("    %s %d\n", names[x.op], x.a)
		case opMove:
			fmt.Printf("    %s %s\n", names[x.op], who)
		case opRead:
			fmt.Printf("    %s%s: %d %s\n", who, names[x.op], s.w[x.a].f.pos, describe(s.log[s.w[x.a].f.pos]))
		default:
			fmt.Printf("    %s%s %d\n", who, names[x.op], x.b)
		}
		if bad := s.do(x); bad != "" {
			fmt.Println("    =>", bad)
		}
	}
}

func describe(r Rec) string {
	kind := []string{"?", "PartitionTaken", "RunRequested", "StepStarted", "StepInterrupted", "StepSucceeded", "SignalReceived", "RunCompleted"}[r.kind]
	if r.kind == Taken {
		return fmt.Sprintf("%s(epoch %d by W%d)", kind, r.epoch, r.by)
	}
	return fmt.Sprintf("%s(run %d seq %d epoch %d by W%d)", kind, r.run, r.seq, r.epoch, r.by)
}

var scripts = [][]Cmd{
	{{Requested, 0}},
	{{Requested, 0}, {Requested, 1}, {Requested, 0}},
	{{Requested, 0}, {Requested, 0}},
	{{Requested, 0}, {Signalled, 0}, {Requested, 1}, {Completed, 0}},
	{{Requested, 0}, {Signalled, 0}, {Requested, 0}, {Signalled, 0}},
}

// random plays schedules until one breaks a property: every schedule with its own speeds, faults and commands.
func random(seed uint64, limit time.Duration, most, faults int) (plays, steps, full int, left [faultKinds]int8, path []Action, bad string) {
	rng := rand.New(rand.NewPCG(seed, 1))
	var as []Action
	for end := time.Now().Add(limit); plays&255 != 0 || time.Now().Before(end) && (most == 0 || plays < most); {
		plays++
		script = scripts[rng.IntN(len(scripts))]
		for k := range left {
			left[k] = int8(rng.IntN(faults + 1))
		}
		var weight [ops][workers]float64
		for o := range weight {
			k := []float64{0.03, 0.3, 1, 4}[rng.IntN(4)]
			if Op(o) >= opTimeout {
				k *= []float64{0.01, 0.1, 1}[rng.IntN(3)]
			}
			for i := range weight[o] {
				weight[o][i] = k * []float64{0.02, 0.2, 1, 1}[rng.IntN(4)]
			}
		}
		s := newState(left)
		path = path[:0]
		for range 30 + rng.IntN(120) {
			if as = s.enabled(as[:0], false); len(as) == 0 {
				break
			}
			total := 0.0
			for _, x := range as {
				total += weight[x.op][min(x.a, workers-1)]
			}
			at, x := rng.Float64()*total, as[len(as)-1]
			for _, y := range as {
				if at -= weight[y.op][min(y.a, workers-1)]; at < 0 {
					x = y
					break
				}
			}
			path = append(path, x)
			steps++
			if bad = s.do(x); bad != "" {
				return
			}
		}
		more, b := s.settle(rng)
		steps += len(more)
		if s.n == logMax {
			full++
		}
		if b != "" {
			if bad = b; b[0] == 'S' {
				path = append(path, more...)
			}
			return
		}
	}
	return plays, steps, full, left, nil, ""
}

// table is a set of 64-bit digests of states.
type table []uint64

func (t table) add(h uint64) bool {
	mask := uint64(len(t) - 1)
	h |= 1
	for i := h * 0x9e3779b97f4a7c15 & mask; ; i = (i + 1) & mask {
		if t[i] == h {
			return false
		} else if t[i] == 0 {
			t[i] = h
			return true
		}
	}
}

// exhaustive visits every state within the bounds, and settles one in `each`.
func exhaustive(left [faultKinds]int8, states, each int) (visited, transitions int, complete bool, path []Action, bad string) {
	type frame struct {
		s  State
		as []Action
	}
	compact = true
	seed, rng := maphash.MakeSeed(), rand.New(rand.NewPCG(1, 1))
	seen := make(table, 1<<bits.Len(uint(states+states/4)))
	first := newState(left)
	stack := []frame{{first, first.enabled(nil, false)}}
	seen.add(maphash.Comparable(seed, first))
	visited = 1
	for len(stack) > 0 {
		f := &stack[len(stack)-1]
		if len(f.as) == 0 {
			stack, path = stack[:len(stack)-1], path[:max(0, len(path)-1)]
			continue
		}
		x := f.as[len(f.as)-1]
		f.as = f.as[:len(f.as)-1]
		s := f.s
		transitions++
		if bad = s.do(x); bad != "" {
			return visited, transitions, false, append(path, x), bad
		}
		if !seen.add(maphash.Comparable(seed, s)) {
			continue
		}
		if visited++; visited >= states {
			return visited, transitions, false, nil, ""
		}
		if visited%each == 0 {
			if _, bad = s.settle(rng); bad != "" {
				return visited, transitions, false, append(path, x), bad
			}
		}
		path = append(path, x)
		stack = append(stack, frame{s, s.enabled(nil, false)})
	}
	return visited, transitions, true, nil, ""
}

func main() {
	seconds := flag.Int("seconds", 10, "time for each set of rules (random schedules)")
	faults := flag.Int("faults", 3, "at most so many of each kind of fault in a schedule")
	most := flag.Int("schedules", 0, "at most so many for each set of rules, 0: as many as there is time for")
	rule := flag.String("rules", "protocol", "protocol, mutants, or names of rules with commas")
	seed := flag.Uint64("seed", 1, "of the random schedules")
	states := flag.Int("states", 0, "search exhaustively, up to so many states")
	each := flag.Int("each", 64, "exhaustive: settle one state in so many")
	budget := flag.String("budget", "crash,move,late", "exhaustive: the faults, one of each name")
	commands := flag.Int("script", 1, "exhaustive: which commands")
	shows := flag.Bool("show", true, "print the shortened schedule of a violation")
	flag.IntVar(&fleet, "workers", workers, "workers")
	flag.Parse()
	t := reflect.TypeOf(rules)
	var todo []string
	wrong := 0
	if *rule == "mutants" {
		for i := range t.NumField() {
			todo = append(todo, t.Field(i).Name)
		}
	} else {
		todo = []string{*rule}
	}
	for _, name := range todo {
		rules = Rules{}
		for _, n := range strings.Split(name, ",") {
			if f := reflect.ValueOf(&rules).Elem().FieldByName(n); f.IsValid() {
				*(*bool)(f.Addr().UnsafePointer()) = true
			} else if n != "protocol" {
				fmt.Println("no such rule:", n)
				os.Exit(2)
			}
		}
		var left [faultKinds]int8
		var path []Action
		var bad string
		if *states > 0 {
			for _, f := range strings.Split(*budget, ",") {
				if k := slices.Index([]string{"crash", "restart", "move", "lose", "dup", "late", "restore", "store", "commit"}, f); k >= 0 {
					left[k]++
				}
			}
			script = scripts[*commands]
			visited, transitions, complete, p, b := exhaustive(left, *states, *each)
			path, bad = p, b
			fmt.Printf("%-28s %d states, %d transitions, complete: %v  %s\n", name, visited, transitions, complete, bad)
		} else {
			plays, steps, full, l, p, b := random(*seed, time.Duration(*seconds)*time.Second, *most, *faults)
			left, path, bad = l, p, b
			fmt.Printf("%-28s %d schedules, %d steps (log full in %d)  %s\n", name, plays, steps, full, bad)
		}
		if bad != "" && *shows {
			show(left, shrink(left, path, bad))
		}
		if unexpected := verdict(name, *rule == "mutants", bad != ""); unexpected != "" {
			fmt.Println("    =>", unexpected)
			wrong++
		}
	}
	if wrong > 0 {
		os.Exit(1)
	}
}

// verdict says what is not as it should be: a violation of the protocol, a deviation of which nobody would notice.
func verdict(name string, mutant, caught bool) string {
	switch {
	case name == "protocol" && caught:
		return "the protocol breaks what it promises"
	case !mutant || slices.Contains(strings.Fields(rare), name):
		return ""
	case slices.Contains(strings.Fields(harmless), name) && caught:
		return "said to be harmless, and it is not"
	case !slices.Contains(strings.Fields(harmless), name) && !caught:
		return "not caught"
	}
	return ""
}
