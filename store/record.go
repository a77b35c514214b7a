package store

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"srsd/envelope"
)

// The keys of the index:
//
//	f                format version of all this
//	g                ledger
//	m<id>            envelope of a message, length and hash of its body
//	d<id>/<n>        one delivery of it; n in two octets, big endian
//	b<id>            its body, where that is small
//	c<key>           counter
//	k<space>\0<key>  value
//	z                nothing, see flushMemTable
//
// A record is a fixed head, which is all that Open reads, and JSON, which is
// read when it is needed. Octets that are not UTF-8 do not survive in the JSON
// part; addresses and parameters have none, and replies lose nothing by it.
const formatVersion = 1

// Queue ids become file names and parts of keys, where "/" must sort before
// whatever may follow.
func checkID(id string) error {
	if len(id) == 0 || len(id) > 64 {
		return fmt.Errorf("store: queue id %q has %d octets", id, len(id))
	}
	for _, c := range []byte(id) {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z') {
			return fmt.Errorf("store: queue id %q is not letters and digits", id)
		}
	}
	return nil
}

// Times are stored as Unix nanoseconds, the zero time as 0.
func toNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func messageKey(id string) []byte { return append([]byte{'m'}, id...) }
func bodyKey(id string) []byte    { return append([]byte{'b'}, id...) }

func deliveryKey(id string, n int) []byte {
	k := append(make([]byte, 0, len(id)+4), 'd')
	k = append(append(k, id...), '/')
	return binary.BigEndian.AppendUint16(k, uint16(n))
}

func parseDeliveryKey(k []byte) (id string, n int, ok bool) {
	i := len(k) - 3
	if i < 2 || k[i] != '/' {
		return "", 0, false
	}
	return string(k[1:i]), int(binary.BigEndian.Uint16(k[i+1:])), true
}

// A place says where a body is.
type place byte

const (
	nowhere place = iota
	inline        // under bodyKey
	inFile        // in the spool
)

// messageHead is the head of an m record.
type messageHead struct {
	place    place
	size     int64
	sum      [sha256.Size]byte
	received int64 // Unix nanoseconds
}

const messageHeadLen = 1 + 1 + 8 + sha256.Size + 8

func encodeMessage(h messageHead, m envelope.Message) ([]byte, error) {
	m.Routes = nil // the deliveries have them
	text, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("store: message %s: %w", m.ID, err)
	}
	b := append(make([]byte, 0, messageHeadLen+len(text)), formatVersion, byte(h.place))
	b = binary.BigEndian.AppendUint64(b, uint64(h.size))
	b = append(b, h.sum[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(h.received))
	return append(b, text...), nil
}

func decodeMessageHead(b []byte) (h messageHead, err error) {
	if len(b) < messageHeadLen || b[0] != formatVersion {
		return h, fmt.Errorf("%w: message record", ErrCorrupt)
	}
	h.place = place(b[1])
	h.size = int64(binary.BigEndian.Uint64(b[2:]))
	copy(h.sum[:], b[10:])
	h.received = int64(binary.BigEndian.Uint64(b[10+sha256.Size:]))
	return h, nil
}

func decodeMessage(b []byte) (m envelope.Message, h messageHead, err error) {
	if h, err = decodeMessageHead(b); err != nil {
		return m, h, err
	}
	if err := json.Unmarshal(b[messageHeadLen:], &m); err != nil {
		return m, h, fmt.Errorf("%w: message record: %w", ErrCorrupt, err)
	}
	return m, h, nil
}

// A code is a DeliveryState in one octet.
type code byte

const (
	queued code = iota
	leased      // never stored
	held
	failed
)

var stateNames = [...]DeliveryState{queued: Queued, leased: Leased, held: Held, failed: Failed}

// A wish is what the operator asked for while an attempt was under way.
type wish byte

const (
	noWish wish = iota
	wishHold
	wishDrop
)

// deliveryHead is the head of a d record.
type deliveryHead struct {
	state  code
	wish   wish
	due    int64 // Unix nanoseconds; of a failed delivery: when it is forgotten
	domain string
}

// deliveryText is the JSON part of a d record.
type deliveryText struct {
	Routes   []envelope.Route
	Attempts []Attempt `json:",omitempty"`
	Tries    int       `json:",omitempty"`
	Delayed  bool      `json:",omitempty"`
}

func (h deliveryHead) append(b []byte) []byte {
	b = append(b, formatVersion, byte(h.state), byte(h.wish))
	b = binary.BigEndian.AppendUint64(b, uint64(h.due))
	b = binary.AppendUvarint(b, uint64(len(h.domain)))
	return append(b, h.domain...)
}

func encodeDelivery(h deliveryHead, d Delivery) ([]byte, error) {
	text, err := json.Marshal(deliveryText{Routes: d.Routes, Attempts: d.Attempts, Tries: d.Tries, Delayed: d.Delayed})
	if err != nil {
		return nil, fmt.Errorf("store: delivery %s/%d: %w", d.Entry, d.N, err)
	}
	b := h.append(make([]byte, 0, 16+len(h.domain)+len(text)))
	return append(b, text...), nil
}

// decodeDeliveryHead also returns the JSON part.
func decodeDeliveryHead(b []byte) (h deliveryHead, text []byte, err error) {
	if len(b) < 12 || b[0] != formatVersion || code(b[1]) > failed {
		return h, nil, fmt.Errorf("%w: delivery record", ErrCorrupt)
	}
	h.state, h.wish = code(b[1]), wish(b[2])
	h.due = int64(binary.BigEndian.Uint64(b[3:]))
	n, used := binary.Uvarint(b[11:])
	rest := b[11+max(used, 0):]
	if used <= 0 || n > uint64(len(rest)) {
		return h, nil, fmt.Errorf("%w: delivery record", ErrCorrupt)
	}
	h.domain = string(rest[:n])
	return h, rest[n:], nil
}

// decodeDelivery gives the delivery in the state that is stored.
func decodeDelivery(id string, n int, b []byte) (Delivery, error) {
	h, text, err := decodeDeliveryHead(b)
	if err != nil {
		return Delivery{}, err
	}
	var t deliveryText
	if err := json.Unmarshal(text, &t); err != nil {
		return Delivery{}, fmt.Errorf("%w: delivery record: %w", ErrCorrupt, err)
	}
	return Delivery{
		Entry: id, N: n, Domain: h.domain, Routes: t.Routes, State: stateNames[h.state],
		Attempts: t.Attempts, Tries: t.Tries, Due: fromNano(h.due), Delayed: t.Delayed,
	}, nil
}
