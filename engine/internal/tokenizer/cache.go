package tokenizer

import (
	"hash/maphash"
	"sync"
)

const (
	cacheShards      = 16   // so that goroutines seldom wait for each other
	cacheWordsMax    = 2048 // per shard
	cacheWordBytes   = 48   // longer words are rare, and not kept
	cacheIDsPerWords = 24
)

// cache keeps the ids of words that were seen. It is bounded: a full shard starts anew, which keeps the words in use.
// Its methods may be called from many goroutines.
type cache struct {
	seed   maphash.Seed
	shards [cacheShards]struct {
		mu    sync.RWMutex
		words map[string][]int32
		_     [32]byte // keeps the locks on different cache lines
	}
}

func newCache() *cache {
	c := &cache{seed: maphash.MakeSeed()}
	for i := range c.shards {
		c.shards[i].words = map[string][]int32{}
	}
	return c
}

// get returns the ids of word; the caller must not change them.
func (c *cache) get(word []byte) ([]int32, bool) {
	if len(word) > cacheWordBytes {
		return nil, false
	}
	s := &c.shards[maphash.Bytes(c.seed, word)%cacheShards]
	s.mu.RLock()
	ids, ok := s.words[string(word)]
	s.mu.RUnlock()
	return ids, ok
}

// put keeps a copy of the ids of word.
func (c *cache) put(word []byte, ids []int32) {
	if len(word) > cacheWordBytes || len(ids) > cacheIDsPerWords {
		return
	}
	s := &c.shards[maphash.Bytes(c.seed, word)%cacheShards]
	kept := clone(ids)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.words) >= cacheWordsMax {
		clear(s.words)
	}
	s.words[string(word)] = kept
}
