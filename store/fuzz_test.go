package store

import (
	"os"
	"testing"
	"time"

	"srsd/envelope"
)

// FuzzInventory reads any file as an inventory. What was written is read again.
func FuzzInventory(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, ledger{seq: 1, messages: 2}, []string{"a", "b"}, nil), ledger{seq: 2, messages: 1}, nil, []string{"a"}), "c")
	f.Fuzz(func(t *testing.T, file []byte, id string) {
		dir := t.TempDir()
		if err := os.WriteFile(inventoryPath(dir), file, 0o600); err != nil {
			t.Fatal(err)
		}
		live, last, err := readInventory(dir)
		if err != nil {
			return
		}
		file = appendFrame(file, ledger{seq: last.seq + 1, messages: 9, deliveries: 10}, []string{id}, nil)
		if err := os.WriteFile(inventoryPath(dir), file, 0o600); err != nil {
			t.Fatal(err)
		}
		again, next, err := readInventory(dir)
		live[id] = true
		if err != nil || next.seq != last.seq+1 || next.messages != 9 || next.deliveries != 10 || len(again) != len(live) {
			t.Errorf("%v %v %v, want %v", again, next, err, live)
		}
	})
}

// FuzzRecord decodes anything as a record; what can be decoded can be encoded.
func FuzzRecord(f *testing.F) {
	m, _ := encodeMessage(messageHead{place: inline, size: 5, received: 7}, envelope.Message{ID: "a"})
	f.Add(m)
	d, _ := encodeDelivery(deliveryHead{state: held, wish: wishDrop, due: 3, domain: "a.example"}, Delivery{Tries: 1, Attempts: []Attempt{{At: time.Unix(9, 0)}}})
	f.Add(d)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, h, err := decodeMessage(b); err == nil {
			if again, err := encodeMessage(h, m); err != nil {
				t.Error(err)
			} else if _, h2, err := decodeMessage(again); err != nil || h2 != h {
				t.Errorf("%v %v", h2, err)
			}
		}
		if h, _, err := decodeDeliveryHead(b); err == nil {
			d, err := decodeDelivery("id", 0, b)
			if err != nil {
				return
			}
			again, err := encodeDelivery(h, d)
			if err != nil {
				return // a year that JSON does not have
			}
			if h2, _, err := decodeDeliveryHead(again); err != nil || h2 != h {
				t.Errorf("%v %v", h2, err)
			}
		}
		decodeLedger(b)
		decodeValue(b, time.Now())
		parseDeliveryKey(b)
	})
}
