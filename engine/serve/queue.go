package serve

import (
	"container/heap"
	"slices"
	"time"
)

// lane is the queue of one kind of work. It is fair among clients by what they were served: the next group is that of
// the client that had least, counted in cost, of those with something waiting. One that comes (back) begins where the
// least served stands, or where it stood itself, so that waiting earns nothing and leaving pays nothing back.
//
// Source: Goyal, Vin, Cheng, Start-time Fair Queueing, SIGCOMM 1996. Round robin with deficits is fair in the same
// measure, but cannot charge a client for a batch that it filled alone because nobody else had work of its target.
type lane struct {
	kind    kind
	clients map[string]*client
	arrived int           // clients so far
	clock   int           // what the least served client had when the last batch was formed
	load    load          // of all waiting groups
	groups  int           // that wait
	since   time.Time     // when the lane was last empty
	used    time.Duration // of the device, by its batches so far
}

// client is who asks.
type client struct {
	name   string
	served int      // cost, from clock on
	order  int      // among clients that were served equally: who came first
	queues []*queue // one for each target, none empty; none where nothing waits
}

// queue is what a client waits for by one target, in the order in which it asked.
type queue struct {
	target *target
	groups []*group
	load   load
	gone   int // of groups: dropped
}

// push queues a group.
func (l *lane) push(g *group) {
	if l.groups == 0 {
		l.since, l.clock = g.at, 0
		clear(l.clients)
	}
	c := l.clients[g.req.client]
	if c == nil {
		c = &client{name: g.req.client, order: l.arrived}
		l.clients[c.name] = c
		l.arrived++
	}
	if len(c.queues) == 0 {
		c.served = max(c.served, l.clock)
	}
	q := c.queue(g.target)
	if q == nil {
		q = &queue{target: g.target}
		c.queues = append(c.queues, q)
	}
	q.groups = append(q.groups, g)
	q.load, l.load = q.load.plus(g.load), l.load.plus(g.load)
	l.groups++
}

// drop takes out a group that need not be computed any more. It stays in its queue's list until half of that is gone.
func (l *lane) drop(g *group) {
	c := l.clients[g.req.client]
	q := c.queue(g.target)
	l.leave(q, g)
	if q.gone++; 2*q.gone > len(q.groups) {
		q.groups = slices.DeleteFunc(q.groups, func(g *group) bool { return g.taken })
		q.gone = 0
	}
	c.tidy(q)
}

// leave takes what g adds out of all sums.
func (l *lane) leave(q *queue, g *group) {
	g.taken = true
	q.load, l.load = q.load.minus(g.load), l.load.minus(g.load)
	l.groups--
}

// head returns the first group of q that is to be computed, nil where there is none. It removes what stands before it.
func (l *lane) head(c *client, q *queue) *group {
	for len(q.groups) > 0 {
		g := q.groups[0]
		switch {
		case g.taken:
			q.gone--
		case g.gone():
			l.leave(q, g)
		default:
			return g
		}
		q.shift()
	}
	c.tidy(q)
	return nil
}

func (q *queue) shift() {
	q.groups[0] = nil
	q.groups = q.groups[1:]
}

// queue returns the client's queue for a target, nil where it has none.
func (c *client) queue(t *target) *queue {
	for _, q := range c.queues {
		if q.target == t {
			return q
		}
	}
	return nil
}

// tidy removes q where it is empty.
func (c *client) tidy(q *queue) {
	if len(q.groups) == 0 {
		c.queues = slices.DeleteFunc(c.queues, func(o *queue) bool { return o == q })
	}
}

// oldest returns the queue with the group that the client has waited for longest.
func (c *client) oldest() *queue {
	return slices.MinFunc(c.queues, func(a, b *queue) int { return a.groups[0].at.Compare(b.groups[0].at) })
}

// take adds groups to b, a batch without any, until one does not fit or none of b's target are left. The target is what
// the least served client has waited for longest.
func (l *lane) take(b *batch) {
	for turns := l.turns(nil); b.target == nil && len(turns) > 0; heap.Pop(&turns) {
		for c := turns[0]; b.target == nil && len(c.queues) > 0; {
			if q := c.oldest(); l.head(c, q) != nil {
				b.target, l.clock = q.target, c.served
			}
		}
	}
	if b.target == nil {
		return
	}
	turns := l.turns(b.target)
	for len(turns) > 0 {
		c := turns[0]
		q := c.queue(b.target)
		if q == nil || l.head(c, q) == nil {
			heap.Pop(&turns)
			continue
		}
		g := q.groups[0]
		if !b.add(g) {
			return
		}
		l.leave(q, g)
		q.shift()
		c.tidy(q)
		c.served += g.load.cost
		heap.Fix(&turns, 0)
	}
}

// turns returns the clients with something waiting for t, or for anything where t is nil, and forgets those who are gone
// and have no more than a new one would.
func (l *lane) turns(t *target) turns {
	var all turns
	for name, c := range l.clients {
		if len(c.queues) == 0 && c.served <= l.clock {
			delete(l.clients, name)
		} else if len(c.queues) > 0 && (t == nil || c.queue(t) != nil) {
			all = append(all, c)
		}
	}
	heap.Init(&all)
	return all
}

// turns is a heap of clients, the least served first.
type turns []*client

func (t turns) Len() int      { return len(t) }
func (t turns) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t turns) Less(i, j int) bool {
	return t[i].served < t[j].served || t[i].served == t[j].served && t[i].order < t[j].order
}
func (t *turns) Push(c any) { *t = append(*t, c.(*client)) }
func (t *turns) Pop() any {
	last := len(*t) - 1
	c := (*t)[last]
	*t = (*t)[:last]
	return c
}
