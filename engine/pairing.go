package engine

// pairing says which pictures and texts of a call are scored together, and where their scores go.
type pairing struct {
	images, texts int
	// nil: each picture with each text, and the score of picture i and text t is the one at i*texts + t. Else the score of
	// a pair is the one at its own place.
	pairs []Pair
	order []int // places of pairs, picture by picture
	first []int // [images+1] those of picture i are order[first[i]:first[i+1]]
}

// allPairs pairs each picture with each text.
func allPairs(images, texts int) *pairing { return &pairing{images: images, texts: texts} }

// somePairs are the pairs named. ErrInvalid if there is no such picture or text.
func somePairs(images, texts int, pairs []Pair) (*pairing, error) {
	p := &pairing{images: images, texts: texts, pairs: pairs, order: make([]int, len(pairs)), first: make([]int, images+1)}
	if pairs == nil {
		p.pairs = []Pair{}
	}
	for at, pair := range pairs {
		if pair.Image < 0 || pair.Image >= images || pair.Text < 0 || pair.Text >= texts {
			return nil, ofKind(ErrInvalid, "tia2: pair %d is picture %d with text %d: expected places among %d pictures and %d texts", at, pair.Image, pair.Text, images, texts)
		}
		p.first[pair.Image+1]++
	}
	for i := range images {
		p.first[i+1] += p.first[i]
	}
	next := make([]int, images)
	copy(next, p.first)
	for at, pair := range pairs {
		p.order[next[pair.Image]] = at
		next[pair.Image]++
	}
	return p, nil
}

// len returns the number of pairs.
func (p *pairing) len() int {
	if p.pairs == nil {
		return p.images * p.texts
	}
	return len(p.pairs)
}

// shape returns how many pictures and texts the scores of a Reward are of: a list of pairs counts as pictures of one text.
func (p *pairing) shape() (images, texts int) {
	if p.pairs == nil {
		return p.images, p.texts
	}
	return len(p.pairs), 1
}

// each calls f with each text of a picture and the place of their score.
func (p *pairing) each(image int, f func(text, at int)) {
	if p.pairs == nil {
		for t := range p.texts {
			f(t, image*p.texts+t)
		}
		return
	}
	for _, at := range p.order[p.first[image]:p.first[image+1]] {
		f(p.pairs[at].Text, at)
	}
}
