// What may happen next, what it does, and the properties.
package main

import (
	"math/bits"
	"math/rand/v2"
)

// Rules are deviations; all false is the protocol as README.md reads it.
type Rules struct {
	// the protocol left out in one place
	noEpochCheck, noLookUp, lookNotJudged, startWhenSent, commitPosition, commitWhenSent, heldDropped, retakeSameEpoch bool

	forgetEarly     bool // before the snapshot covers the run
	outstandingKept bool // a new epoch does not release what was outstanding
	startAtSnapshot bool // a new owner does not read from the events offset if that is lower

	// other readings of the text: taking
	zombieAsks            bool // whoever believes that it is assigned asks, without a word from the group; so does an owner that was overtaken
	kickedWaits           bool // the group is asked; an owner that read a higher epoch waits until it is assigned anew
	zombieAsksKickedWaits bool // both, the letter of the text
	leavesQuietly         bool // a zombie that learns that it lost the partition makes no new generation
	ownByEpoch            bool // a Taken is one's own if it has the epoch that was asked for
	oldAskCounts          bool // ... if it names the worker, whichever its assignment or process
	askNeverTimesOut      bool

	// the producer
	duplicates   bool // no idempotence: a record may land again, later
	lookUpInFold bool // remedy: a first event of a run not in memory is compared with the store's offset of the first event
	ackedForget  bool // no remedy: a run is forgotten by an owner without a record in flight

	// the store
	markWithoutLoad      bool // "what this worker has forgotten" leaves out what its snapshot let it not load
	lookJudgedWhenAsked  bool // whether an answer counts is seen when it comes, not when it is used
	loadNotAtomic        bool // rows read after the position
	announceFromOldStore bool // the last digest of an end below the snapshot is asked of a store that stands lower

	// the rest
	endsNotKept     bool // on revocation the ends not yet announced are dropped, the fold stays
	endsOfOwnerOnly bool // only an end folded as the owner is remembered
	sameAttempt     bool // an interrupted attempt starts again under its number
	signalsNotOnce  bool // a signal that comes again is decided again
}

// harmless are deviations that other parts of the protocol make up for, or remedies that are not needed by themselves;
// rare is caught only in more schedules than one has patience for. All others must be caught.
const harmless = "forgetEarly outstandingKept zombieAsks kickedWaits leavesQuietly lookUpInFold ackedForget"
const rare = "zombieAsksKickedWaits"

var rules Rules
var script []Cmd
var fleet = workers
var compact bool // exhaustive: an effect ends when it starts (its result may wait), the store always moves to the end of the log

type Op int8

const (
	opRead Op = iota
	opLand
	opTake
	opLookUp
	opDecide
	opAdvance
	opStart
	opFinish
	opAnnounce
	opCommitCommands
	opCommitEvents
	opProject
	opForget
	opLearn
	opLoad
	opAsk
	opTimeout
	opMove
	opRestart
	opCrash
	opLose
	opDup
	opRestore
	ops
)

var names = []string{"reads one record", "lands", "takes command", "looks up command", "decides command", "advances run", "starts effect of run", "has result of run", "announces end at", "commits commands", "commits events", "store moves to", "forgets run",
	"learns of its assignment", "loads the snapshot", "asks for the partition", "gives up an append", "group assigns to", "restarts", "crashes", "lost:", "lands, and will again", "store restored to"}

type Action struct {
	op   Op
	a, b int8
}

// enabled lists what may happen next. calm: no more faults, an unknown outcome shows only when the record is truly lost.
func (s *State) enabled(as []Action, calm bool) []Action {
	add := func(op Op, a, b int8) { as = append(as, Action{op, a, b}) }
	fault := func(kind int, op Op, a, b int8) {
		if !calm && s.left[kind] > 0 {
			add(op, a, b)
		}
	}
	anyAlive := false
	for i := range int8(workers) {
		anyAlive = anyAlive || s.w[i].alive
	}
	for i := range int8(fleet) {
		w := &s.w[i]
		if !w.alive {
			if fault(Restart, opRestart, i, 0); calm && !anyAlive {
				add(opRestart, i, 0)
				anyAlive = true
			}
			continue
		}
		fault(Crash, opCrash, i, 0)
		if fault(Move, opMove, i, 0); calm && !s.w[s.asg].alive && i != s.asg {
			add(opMove, i, 0)
		}
		if w.assigned && w.gen != s.gen || !w.assigned && s.asg == i && w.gen != s.gen {
			add(opLearn, i, 0)
		}
		for r := range int8(runIDs) {
			if w.running[r] != 0 {
				add(opFinish, i, r)
			}
		}
		if !w.assigned {
			continue
		}
		if !w.loaded {
			add(opLoad, i, 0)
			continue
		}
		if w.f.pos < s.n {
			r := s.log[w.f.pos]
			below := w.f.pos < w.base && r.kind == Completed && s.snap <= w.f.pos && !rules.announceFromOldStore
			if folded := rules.lookUpInFold && r.kind == Requested && s.snap < w.mark; !below && !folded {
				add(opRead, i, 0)
			}
		}
		confirmed := w.gen == s.gen && s.asg == i || rules.zombieAsks || rules.zombieAsksKickedWaits
		patient := w.kicked && (rules.kickedWaits || rules.zombieAsksKickedWaits)
		if w.mine == 0 && w.asked == 0 && w.f.pos >= w.end && confirmed && !patient && s.flying < flyMax {
			add(opAsk, i, 0)
		}
		waits := w.asked != 0 && !rules.askNeverTimesOut || w.out != [runIDs]int8{}
		lost := w.f.pos == s.n
		for _, r := range s.fly[:s.flying] {
			lost = lost && r.by != i
		}
		if waits && lost {
			add(opTimeout, i, 0)
		} else if waits {
			fault(Late, opTimeout, i, 0)
		}
		for c := range int8(len(script)) {
			if w.held[c] == 1 && script[c].kind == Requested && !w.f.runs[script[c].run].known && !w.lookCounts(c) && s.snap+1 != w.lookAt[c] {
				add(opLookUp, i, c)
			}
		}
		if w.next < int8(len(script)) {
			add(opTake, i, w.next)
		}
		for r := range int8(runIDs) {
			u := w.f.runs[r]
			open := false
			for _, x := range s.fly[:s.flying] {
				open = open || x.by == i && x.run == r && x.kind != Taken
			}
			if u.done && (s.snap >= u.last || rules.forgetEarly) && !(rules.ackedForget && (open || !w.owner())) {
				add(opForget, i, r)
			}
		}
		if !w.owner() {
			continue
		}
		for c := range int8(len(script)) {
			if w.held[c] != 1 {
				continue
			}
			if e, settled := w.decide(c); settled || len(e) > 0 && s.flying+2 <= flyMax {
				add(opDecide, i, c)
			}
		}
		for r := range int8(runIDs) {
			if len(w.advance(r)) > 0 && s.flying+2 <= flyMax {
				add(opAdvance, i, r)
			}
			if u := w.f.runs[r]; u.open && u.ep == w.mine && w.running[r] != u.att && w.result[r] != u.att {
				add(opStart, i, r)
			}
		}
		if w.ends != 0 {
			add(opAnnounce, i, int8(bits.TrailingZeros64(w.ends)))
		}
		if w.safeCommands() != s.commands {
			add(opCommitCommands, i, w.safeCommands())
		}
		if w.safeEvents() != s.events && (!compact || calm || s.left[EventsCommits] > 0) {
			add(opCommitEvents, i, w.safeEvents())
		}
	}
	for i := range s.flying {
		r, first := s.fly[i], true
		for _, q := range s.fly[:i] {
			first = first && (q.by != r.by || q.prod != r.prod || q.dup)
		}
		if first && s.n < logMax {
			if add(opLand, i, r.by); rules.duplicates && !r.dup {
				fault(Dup, opDup, i, r.by)
			}
		}
		fault(Lose, opLose, i, r.by)
	}
	if s.snap < s.n && (!compact || calm || s.left[StoreMoves] > 0) {
		if add(opProject, s.n, 0); s.snap+1 < s.n && !compact {
			add(opProject, s.snap+1, 0)
		}
	}
	if s.snap > 0 {
		if fault(Restore, opRestore, 0, 0); s.snap > 2 {
			fault(Restore, opRestore, s.snap-2, 0)
		}
	}
	return as
}

// do carries out an action and returns the safety property that it breaks, or "".
func (s *State) do(x Action) string {
	w := &s.w[min(max(x.a, 0), workers-1)]
	spend := func(kind int) { s.left[kind] = max(0, s.left[kind]-1) }
	switch x.op {
	case opRead:
		return s.read(x.a)
	case opLand:
		return s.land(x.a, false)
	case opDup:
		spend(Dup)
		return s.land(x.a, true)
	case opLose:
		spend(Lose)
		s.unfly(x.a)
	case opTake:
		w.held[w.next] = 1
		w.next++
	case opLookUp:
		w.lookAt[x.b], w.lookYes[x.b] = s.snap+1, s.snapshot(s.snap).runs[script[x.b].run].known
		if rules.lookJudgedWhenAsked && s.snap >= w.mark {
			w.lookAt[x.b] = 127
		}
	case opDecide:
		events, settled := w.decide(x.b)
		if !settled {
			return s.append(x.a, script[x.b].run, events...)
		}
		w.held[x.b], w.lookAt[x.b], w.lookYes[x.b] = 2, 0, false
		if u := &w.f.runs[script[x.b].run]; script[x.b].kind != Requested && (!u.known || u.done) {
			if t := s.snapshot(w.f.pos).runs[script[x.b].run]; t.known && !t.done {
				return "S5: refused on a run that goes on"
			}
			s.refused |= 1 << x.b
		}
	case opAdvance:
		return s.append(x.a, x.b, w.advance(x.b)...)
	case opStart:
		if bad := s.start(x.a, x.b, w.f.runs[x.b].att, w.mine); bad != "" || !compact {
			return bad
		}
		w.result[x.b], w.running[x.b] = w.running[x.b], 0
	case opFinish:
		w.result[x.b], w.running[x.b] = w.running[x.b], 0
	case opAnnounce:
		w.ends &^= 1 << x.b
		s.told |= 1 << x.b
	case opCommitCommands:
		s.commands = w.safeCommands()
		for c, cmd := range script[:s.commands] {
			if cmd.kind == Requested && !s.truth.runs[cmd.run].known || cmd.kind != Requested && (s.caused|s.refused)>>c&1 == 0 {
				return "S5: an unsettled command committed"
			}
		}
	case opCommitEvents:
		spend(EventsCommits)
		s.events = w.safeEvents()
		for o, r := range s.log[:s.events] {
			if r.kind == Completed && s.facts>>o&1 == 1 && s.told>>o&1 == 0 {
				return "S6: an end committed, never announced"
			}
		}
	case opProject:
		spend(StoreMoves)
		s.snap = x.a
	case opRestore:
		spend(Restore)
		s.snap = x.a
	case opForget:
		w.mark = max(w.mark, w.f.runs[x.b].last)
		w.f.runs[x.b] = Run{}
	case opLearn:
		if s.asg == x.a {
			s.assign(x.a)
		} else {
			s.revoke(x.a)
			if !rules.leavesQuietly { // it joins again, which makes a new generation for all
				s.gen++
			}
		}
	case opLoad:
		s.load(x.a)
	case opAsk:
		w.asked = w.f.epoch + 1
		s.send(x.a, Rec{kind: Taken, epoch: w.asked, gen: w.gen})
	case opTimeout: // the producer is dropped, the partition taken anew
		spend(Late)
		if w.prod++; !rules.retakeSameEpoch {
			w.mine = 0
		}
		w.asked, w.kicked, w.out = 0, false, [runIDs]int8{}
	case opMove:
		spend(Move)
		s.asg = x.a
		s.gen++
	case opRestart:
		spend(Restart)
		w.alive = true
		s.gen++
	case opCrash:
		spend(Crash)
		*w = Worker{prod: w.prod + 1}
	}
	return ""
}

// goals holds when nothing is left to do: what must have happened by then.
func (s *State) goals() string {
	w := &s.w[s.asg]
	switch {
	case s.n == logMax:
		return ""
	case !w.owner() || w.mine != s.truth.epoch:
		return "L1: the partition has no owner"
	case s.commands != int8(len(script)):
		return "L2: a command never settled"
	case w.out != [runIDs]int8{} || s.flying > 0:
		return "L3: an append outstanding for ever"
	}
	for _, c := range script {
		if u := s.truth.runs[c.run]; c.kind == Requested && !u.done {
			return "L4: an accepted run never ends"
		} else if c.kind == Requested && (s.told>>(u.last-1)&1 == 0 || s.events < u.last) {
			return "L5: an end never announced, or its offset never committed"
		}
	}
	return ""
}

// settle ends the faults and lets everything run on, in any order, until nothing is left to do.
func (s State) settle(rng *rand.Rand) (path []Action, bad string) {
	var as []Action
	for step := 0; ; step++ {
		if as = s.enabled(as[:0], true); len(as) == 0 {
			return path, s.goals()
		}
		if step > 3000 {
			return path, "L6: no rest"
		}
		x := as[rng.IntN(len(as))]
		path = append(path, x)
		if bad = s.do(x); bad != "" {
			return path, bad
		}
	}
}
