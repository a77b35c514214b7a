package postfix

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"

	"srsd/forward"
)

// The milter protocol as sendmail's mfdef.h and mfapi.h have it, version 6.
const (
	milterVersion = 6

	// maxPacket is more than any MTA sends: a body chunk has 65,535 octets.
	maxPacket = 128 << 10

	cmdAbort     = 'A'
	cmdBody      = 'B'
	cmdConnect   = 'C'
	cmdMacros    = 'D'
	cmdEnd       = 'E'
	cmdHelo      = 'H'
	cmdQuitNew   = 'K'
	cmdHeader    = 'L'
	cmdMail      = 'M'
	cmdEndHeader = 'N'
	cmdNegotiate = 'O'
	cmdQuit      = 'Q'
	cmdRcpt      = 'R'
	cmdData      = 'T'
	cmdUnknown   = 'U'

	replyAccept   = 'a'
	replyContinue = 'c'
	replyTempFail = 't'
	replyCode     = 'y'

	modAddRcpt       = '+'
	modAddRcptParams = '2'
	modDelRcpt       = '-'
	modChangeFrom    = 'e'
	modInsertHeader  = 'i'

	actAddHeader     = 0x01
	actAddRcpt       = 0x04
	actDelRcpt       = 0x08
	actChangeFrom    = 0x40
	actAddRcptParams = 0x80

	protoNoBody      = 0x10
	protoNoHeaders   = 0x20
	protoNoEndHeader = 0x40
	protoNoUnknown   = 0x100
	protoNoData      = 0x200
)

// readPacket reads a packet, its command first, into the buffer where it fits.
func readPacket(r *bufio.Reader, buffer []byte) ([]byte, error) {
	head, err := r.Peek(4)
	if err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head)
	if n == 0 || n > maxPacket {
		return nil, fmt.Errorf("%w: a milter packet of %d octets", errMalformed, n)
	}
	_, _ = r.Discard(4) // has just been peeked at
	if int(n) > cap(buffer) {
		buffer = make([]byte, n)
	}
	buffer = buffer[:n]
	_, err = io.ReadFull(r, buffer)
	return buffer, err
}

// writePacket leaves its errors to the next read, which flushes.
func writePacket(w *bufio.Writer, command byte, data ...string) {
	n := 1
	for _, d := range data {
		n += len(d)
	}
	_, _ = w.Write(binary.BigEndian.AppendUint32(w.AvailableBuffer(), uint32(n)))
	_ = w.WriteByte(command)
	for _, d := range data {
		_, _ = w.WriteString(d)
	}
}

// cstrings splits strings that end in NUL each; there is at least one.
func cstrings(data []byte) ([]string, error) {
	text, ok := strings.CutSuffix(string(data), "\x00")
	if !ok {
		return nil, fmt.Errorf("%w: a milter string without an end", errMalformed)
	}
	return strings.Split(text, "\x00"), nil
}

// cstring joins strings so that cstrings splits them again.
func cstring(fields ...string) string { return strings.Join(fields, "\x00") + "\x00" }

// Options are the two sides of a negotiation.
type options struct{ version, actions, protocol uint32 }

func parseOptions(data []byte) (o options, err error) {
	if len(data) < 12 {
		return o, fmt.Errorf("%w: a milter negotiation of %d octets", errMalformed, len(data))
	}
	return options{
		binary.BigEndian.Uint32(data), binary.BigEndian.Uint32(data[4:]), binary.BigEndian.Uint32(data[8:]),
	}, nil
}

func (o options) append(b []byte) []byte {
	for _, v := range []uint32{o.version, o.actions, o.protocol} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func isUnknown(err error) bool { return errors.Is(err, forward.ErrUnknown) }
