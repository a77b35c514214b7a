package catalogue_test

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// TestSmarthostDown: where nobody answers at the smarthost, the next one takes
// the message. One that refuses our password, and one that refuses all
// recipients for now, defer it: 3 of 3 arrive in the end, 0 are bounced, and the
// password stands in the log 0 times, in no spelling.
func TestSmarthostDown(t *testing.T) {
	t.Parallel()
	const password = "correct horse battery staple"
	w := newWorld(t, "mx.trusted.example A NET.10\nmx.down.example A NET.11\n", "jo")
	target := newSink(t, w.at(10), func(s *sink) {
		s.auth, s.tls = true, &tls.Config{Certificates: []tls.Certificate{trusted}}
	})
	w.write("password", password+"\n")
	w.start(fmt.Sprintf(`[deliver]
smarthost = "mx.down.example:%d"
smarthost_fallback = ["mx.trusted.example:%[1]d"]
smarthost_user = "srsd"
smarthost_password_file = "password"
[log]
level = "debug"
`, w.port))
	login := "AUTH PLAIN " + base64.StdEncoding.EncodeToString([]byte("\x00srsd\x00"+password))
	w.want("jo", "250")
	if n, _, _ := target.count(); n != 1 || countPrefix(target.commands(false), login) != 1 || countPrefix(target.commands(true), "AUTH") != 0 {
		t.Errorf("%d arrived by the fallback, which heard %q", n, target.commands(false))
	}
	for _, trouble := range []map[string]string{
		{"mail": "421 4.3.2 going", "auth": "535 5.7.8 no: " + login}, // the connection ends, so that the next one logs in
		{"rcpt": "450 4.7.1 not today"},
	} {
		target.behave(func(stage, _ string) string { return trouble[stage] })
		w.want("jo", "250")
		if waiting, failed := w.waiting(); waiting != 1 || failed != 0 {
			t.Errorf("%v: %d wait, %d failed", trouble, waiting, failed)
		}
		before, _, _ := target.count()
		target.behave(nil)
		target.wait(t, before+1)
		w.drained()
	}
	log := w.log.String()
	for _, secret := range []string{password, strings.Fields(login)[2], base64.StdEncoding.EncodeToString([]byte(password))} {
		if strings.Contains(log, secret) {
			t.Errorf("%q stands in the log", secret)
		}
	}
	if !strings.Contains(log, "credentials") {
		t.Error("the log does not say that the password was refused")
	}
}
