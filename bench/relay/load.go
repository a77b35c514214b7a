package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A load is what a client sends.
type load struct {
	connections int
	size        int  // octets of a message
	recipients  int  // of a message
	pipeline    bool // MAIL, all RCPT and DATA go out in one piece (RFC 2920)
}

// A taking is what a run has shown.
type taking struct {
	elapsed time.Duration // from the first connect until the sink has all
	p99     time.Duration // from the final dot to its answer
}

// send sends n messages to addr and waits until the sink has them all.
func (l load) send(addr string, sink *sink, n int) (taking, error) {
	text := "From: ann@sender.example\r\nTo: jo@alumni.example\r\nSubject: load\r\n\r\n"
	for len(text) < l.size {
		text += strings.Repeat("x", 76) + "\r\n"
	}
	text += ".\r\n"
	before := sink.taken.Load()
	var next atomic.Int64
	var mu sync.Mutex
	var waits []time.Duration
	var failure error
	var clients sync.WaitGroup
	start := time.Now()
	for range l.connections {
		clients.Go(func() {
			mine, err := l.session(addr, text, func() bool { return next.Add(1) <= int64(n) })
			mu.Lock()
			defer mu.Unlock()
			waits = append(waits, mine...)
			if err != nil {
				failure = err
			}
		})
	}
	clients.Wait()
	if failure != nil {
		return taking{}, failure
	}
	want := before + int64(n*l.recipients)
	for end := time.Now().Add(5 * time.Minute); sink.taken.Load() < want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return taking{}, fmt.Errorf("only %d of %d deliveries arrived", sink.taken.Load()-before, want-before)
		}
	}
	slices.Sort(waits)
	return taking{elapsed: time.Since(start), p99: waits[len(waits)*99/100]}, nil
}

// session sends messages on one connection while more says so.
func (l load) session(addr, text string, more func() bool) (waits []time.Duration, err error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Minute))
	r := bufio.NewReader(conn)
	send := func(text string) {
		if err == nil {
			_, err = io.WriteString(conn, text)
		}
	}
	hear := func(class string) {
		var reply string
		for err == nil {
			if reply, err = r.ReadString('\n'); err != nil || len(reply) < 4 || reply[3] != '-' {
				break
			}
		}
		if err == nil && !strings.HasPrefix(reply, class) {
			err = fmt.Errorf("%q was answered, wanted %s", reply, class)
		}
	}
	say := func(line, class string) { send(line); hear(class) }
	hear("220")
	say("EHLO client.example\r\n", "250")
	for i := 0; err == nil && more(); i++ {
		l.envelope(i, send, hear)
		dot := time.Now()
		say(text, "250")
		waits = append(waits, time.Since(dot))
	}
	say("QUIT\r\n", "221")
	return waits, err
}

// envelope says everything up to DATA.
func (l load) envelope(i int, send, hear func(string)) {
	commands := []string{"MAIL FROM:<ann@sender.example>\r\n"}
	for k := range l.recipients {
		commands = append(commands, fmt.Sprintf("RCPT TO:<user%d@alumni.example>\r\n", (i+k)%users))
	}
	if l.pipeline {
		send(strings.Join(commands, "") + "DATA\r\n")
	}
	for _, c := range commands {
		if !l.pipeline {
			send(c)
		}
		hear("250")
	}
	if !l.pipeline {
		send("DATA\r\n")
	}
	hear("354")
}

// A sink is a mail server that takes everything and forgets it.
type sink struct {
	ln    net.Listener
	taken atomic.Int64 // deliveries: messages times recipients
}

func newSink() (*sink, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{ln: ln}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return s, nil
}

func (s *sink) serve(c net.Conn) {
	defer c.Close()
	r, w := bufio.NewReaderSize(c, 64<<10), bufio.NewWriter(c)
	say := func(reply string) {
		w.WriteString(reply + "\r\n")
		if r.Buffered() == 0 {
			w.Flush()
		}
	}
	say("220 sink ESMTP")
	rcpts := int64(0)
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch strings.ToUpper(string(line[:min(4, len(line))])) {
		case "EHLO":
			say("250-sink\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250 8BITMIME")
		case "MAIL":
			rcpts = 0
			say("250 ok")
		case "RCPT":
			rcpts++
			say("250 ok")
		case "DATA":
			if rcpts == 0 {
				say("503 no recipients")
				continue
			}
			say("354 go on")
			w.Flush()
			for {
				line, err := r.ReadSlice('\n')
				if err == bufio.ErrBufferFull {
					continue
				}
				if err != nil {
					return
				}
				if string(line) == ".\r\n" {
					break
				}
			}
			s.taken.Add(rcpts)
			say("250 ok")
		case "QUIT":
			say("221 bye")
			w.Flush()
			return
		default:
			say("250 ok")
		}
	}
}
