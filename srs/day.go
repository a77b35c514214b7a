package srs

import "time"

// dayLetters are the digits of a timestamp, as RFC 4648, section 6, numbers them.
const dayLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"

const (
	day      = 24 * time.Hour
	dayCycle = 1024 // two characters of five bits
)

// dayNumber is the number of the UTC day of t since 1970.
func dayNumber(t time.Time) int64 {
	s := t.Unix()
	n := s / 86400
	if s%86400 < 0 {
		n--
	}
	return n
}

// stamp writes a day as its two characters.
func stamp(n int64) [2]byte {
	return [2]byte{dayLetters[n>>5&31], dayLetters[n&31]}
}

// unstamp reads exactly two characters of either case.
func unstamp(s string) (n int64, ok bool) {
	if len(s) != 2 {
		return 0, false
	}
	hi, lo := digit(s[0]), digit(s[1])
	return int64(hi)<<5 | int64(lo), hi >= 0 && lo >= 0
}

func digit(c byte) int {
	switch c = lower(c); {
	case 'a' <= c && c <= 'z':
		return int(c - 'a')
	case '2' <= c && c <= '7':
		return int(c-'2') + 26
	}
	return -1
}

// age is how many days before today a timestamp was written: -512 to 511,
// because the cycle cannot tell more.
func age(today, stamped int64) int {
	d := int((today - stamped) & (dayCycle - 1))
	if d >= dayCycle/2 {
		d -= dayCycle
	}
	return d
}
