package memstore

import (
	"bytes"
	"hash/maphash"
)

// node is an immutable search tree, balanced by priorities drawn from the
// keys' hashes (a treap). Changes copy the path to the root, so every root is a
// snapshot.
type node struct {
	key, value  []byte
	priority    uint64
	left, right *node
}

func (n *node) get(key []byte) ([]byte, bool) {
	for n != nil {
		switch c := bytes.Compare(key, n.key); {
		case c < 0:
			n = n.left
		case c > 0:
			n = n.right
		default:
			return n.value, true
		}
	}
	return nil, false
}

func (n *node) put(seed maphash.Seed, key, value []byte) *node {
	if n == nil {
		return &node{key: key, value: value, priority: maphash.Bytes(seed, key)}
	}
	m := *n
	switch c := bytes.Compare(key, n.key); {
	case c < 0:
		m.left = n.left.put(seed, key, value)
		if m.left.priority > m.priority {
			return m.rotateRight()
		}
	case c > 0:
		m.right = n.right.put(seed, key, value)
		if m.right.priority > m.priority {
			return m.rotateLeft()
		}
	default:
		m.value = value
	}
	return &m
}

// rotateRight lifts the left child, which is a fresh copy.
func (n *node) rotateRight() *node {
	l := n.left
	n.left, l.right = l.right, n
	return l
}

func (n *node) rotateLeft() *node {
	r := n.right
	n.right, r.left = r.left, n
	return r
}

func (n *node) remove(key []byte) *node {
	if n == nil {
		return nil
	}
	m := *n
	switch c := bytes.Compare(key, n.key); {
	case c < 0:
		m.left = n.left.remove(key)
	case c > 0:
		m.right = n.right.remove(key)
	default:
		return merge(n.left, n.right)
	}
	return &m
}

// merge joins two trees of which every key of a precedes every key of b.
func merge(a, b *node) *node {
	switch {
	case a == nil:
		return b
	case b == nil:
		return a
	case a.priority > b.priority:
		m := *a
		m.right = merge(a.right, b)
		return &m
	}
	m := *b
	m.left = merge(a, b.left)
	return &m
}

// ascend calls fn for each key that is at least from and, if beyond is set,
// not equal to it, until fn returns false.
func (n *node) ascend(from []byte, beyond bool, fn func(key, value []byte) bool) bool {
	if n == nil {
		return true
	}
	c := bytes.Compare(n.key, from)
	if c > 0 && !n.left.ascend(from, beyond, fn) {
		return false
	}
	if (c > 0 || c == 0 && !beyond) && !fn(n.key, n.value) {
		return false
	}
	return n.right.ascend(from, beyond, fn)
}
