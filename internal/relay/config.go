// Package relay puts the parts of srsd together: it reads the configuration,
// builds the parts from it, runs them, and swaps what a reload may swap.
package relay

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/BurntSushi/toml"
)

// A Config is the configuration file, with the defaults filled in and every
// path absolute. docs/configuration.md describes each key; the comments here
// say what the type cannot.
type Config struct {
	File     string `toml:"-"` // where it was read
	Hostname string `toml:"hostname"`
	DataDir  string `toml:"data_dir"`
	User     string `toml:"user"` // to become after the ports are open, when started as root

	Receive Receive `toml:"receive"`
	TLS     TLS     `toml:"tls"`
	Forward Forward `toml:"forward"`
	SRS     SRS     `toml:"srs"`
	SPF     SPF     `toml:"spf"`
	Deliver Deliver `toml:"deliver"`
	Bounce  Bounce  `toml:"bounce"`
	DNS     DNS     `toml:"dns"`
	Postfix Postfix `toml:"postfix"`
	Log     Log     `toml:"log"`
}

// Receive is the section [receive]: the port that faces the world.
type Receive struct {
	Listen                   []string  `toml:"listen"`
	ListenTLS                []string  `toml:"listen_tls"`
	ProxyNetworks            []Network `toml:"proxy_networks"`
	MaxMessage               Size      `toml:"max_message"`
	MaxRecipients            int       `toml:"max_recipients"`
	MaxConnections           int       `toml:"max_connections"`
	MaxConnectionsPerIP      int       `toml:"max_connections_per_ip"`
	MaxConnectionsPerNetwork int       `toml:"max_connections_per_network"`
	Memory                   Size      `toml:"memory"`
	IdleTimeout              Duration  `toml:"idle_timeout"`
	SessionTimeout           Duration  `toml:"session_timeout"`
	MaxErrors                int       `toml:"max_errors"`
	MaxCommands              int       `toml:"max_commands"`
	MaxFailedSRS             int       `toml:"max_failed_srs"`
	MaxReceived              int       `toml:"max_received"`
	GreetDelay               Duration  `toml:"greet_delay"`
	ReverseNames             bool      `toml:"reverse_names"`
	DNSBL                    []string  `toml:"dnsbl"` // zones whose listed clients are refused; "ZONE=mark" only marks
	DNSWL                    []string  `toml:"dnswl"` // zones whose listed clients are spared the lists above
}

// TLS is the section [tls]: what STARTTLS and listen_tls show.
type TLS struct {
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

// Forward is the section [forward]: the alias table.
type Forward struct {
	Domains    []string `toml:"domains"`
	Aliases    []string `toml:"aliases"`
	ForwardDir string   `toml:"forward_dir"`
	IncludeDir string   `toml:"include_dir"`
	Postmaster string   `toml:"postmaster"`
	MaxTargets int      `toml:"max_targets"`
	MaxDepth   int      `toml:"max_depth"`
}

// SRS is the section [srs]: how reverse-paths are rewritten.
type SRS struct {
	Domain      string            `toml:"domain"`
	Domains     map[string]string `toml:"domains"` // alias domain to SRS domain
	Retired     []string          `toml:"retired"` // SRS domains that only verify
	Secrets     string            `toml:"secrets"`
	Format      string            `toml:"format"`
	Accept      []string          `toml:"accept"`
	HashLength  int               `toml:"hash_length"`
	HashMinimum int               `toml:"hash_minimum"`
	MaxAge      Duration          `toml:"max_age"`
	Future      Duration          `toml:"future"`
	Separator   string            `toml:"separator"`
	Alphabet    string            `toml:"alphabet"`
	AllowFrom   []string          `toml:"allow_from"`
}

// SPF is the section [spf]: what follows from each result, "reject", "defer" or
// "mark".
type SPF struct {
	Fail              string    `toml:"fail"`
	SoftFail          string    `toml:"softfail"`
	Neutral           string    `toml:"neutral"`
	None              string    `toml:"none"`
	PermError         string    `toml:"permerror"`
	TempError         string    `toml:"temperror"`
	HELO              string    `toml:"helo"`
	SkipNetworks      []Network `toml:"skip_networks"`
	TrustedForwarders []string  `toml:"trusted_forwarders"`
	StrictVoid        bool      `toml:"strict_void"`
}

// Deliver is the section [deliver]: the way out.
type Deliver struct {
	Mode              string            `toml:"mode"`
	Budget            Duration          `toml:"budget"`
	Smarthost         string            `toml:"smarthost"`
	SmarthostFallback []string          `toml:"smarthost_fallback"`
	SmarthostUser     string            `toml:"smarthost_user"`
	SmarthostPassword string            `toml:"smarthost_password_file"`
	Port              int               `toml:"port"`
	Source            []string          `toml:"source"`
	AllowNetworks     []Network         `toml:"allow_networks"`
	ConnectionsPerHop int               `toml:"connections_per_hop"`
	Timeout           Duration          `toml:"timeout"`
	DotTimeout        Duration          `toml:"dot_timeout"`
	Retry             []Duration        `toml:"retry"`
	Lifetime          Duration          `toml:"lifetime"`
	DelayWarning      Duration          `toml:"delay_warning"`
	TLS               map[string]string `toml:"tls"` // next-hop domain to none, opportunistic, required, verified
}

// Bounce is the section [bounce]: who learns of a failure.
type Bounce struct {
	To              string   `toml:"to"`
	HideTarget      bool     `toml:"hide_target"`
	AutoReplies     bool     `toml:"auto_replies"`
	ReportLimit     int      `toml:"report_limit"`
	PerAddressLimit int      `toml:"per_address_limit"`
	SuspendAfter    int      `toml:"suspend_after"`
	SuspendWithin   Duration `toml:"suspend_within"`
	SuspendHook     string   `toml:"suspend_hook"`
}

// DNS is the section [dns].
type DNS struct {
	Servers []string `toml:"servers"`
	Timeout Duration `toml:"timeout"`
}

// Postfix is the section [postfix]: the doors for Postfix's lookups.
type Postfix struct {
	SenderTCP    string   `toml:"sender_tcp"`
	RecipientTCP string   `toml:"recipient_tcp"`
	Socketmap    string   `toml:"socketmap"`
	Milter       string   `toml:"milter"`
	Policy       string   `toml:"policy"`
	LocalDomains []string `toml:"local_domains"` // senders in them are not rewritten, recipients in them do not leave the house
	Exclude      []string `toml:"exclude"`       // sender domains that are never rewritten; ".example.com" for all below
	RewriteLocal bool     `toml:"rewrite_local"` // milter: rewrite also where no recipient leaves the house
	MilterSPF    bool     `toml:"milter_spf"`    // milter: check SPF as the relay does, and add Received-SPF
}

// Log is the section [log].
type Log struct {
	Format string `toml:"format"`
	Level  string `toml:"level"`
}

// Default is the configuration of an empty file.
func Default() Config {
	day := 24 * time.Hour
	return Config{
		DataDir: "data",
		Receive: Receive{
			MaxMessage: 50 << 20, MaxRecipients: 100,
			MaxConnections: 10_000, MaxConnectionsPerIP: 50, MaxConnectionsPerNetwork: 500,
			Memory: 256 << 20, IdleTimeout: Duration(5 * time.Minute), SessionTimeout: Duration(time.Hour),
			MaxErrors: 20, MaxCommands: 100, MaxFailedSRS: 20, MaxReceived: 50,
		},
		Forward: Forward{MaxTargets: 100, MaxDepth: 10},
		SRS: SRS{
			Format: "srsd", MaxAge: Duration(21 * day), Future: Duration(day), Separator: "=", Alphabet: "standard",
		},
		SPF: SPF{
			Fail: "reject", SoftFail: "mark", Neutral: "mark", None: "mark", PermError: "mark", TempError: "defer",
			HELO: "null",
		},
		Deliver: Deliver{
			Mode: "cut-through", Budget: Duration(20 * time.Second), Port: 25, ConnectionsPerHop: 20,
			Timeout: Duration(5 * time.Minute), DotTimeout: Duration(10 * time.Minute),
			Retry: []Duration{
				Duration(5 * time.Minute), Duration(15 * time.Minute), Duration(30 * time.Minute), Duration(time.Hour),
				Duration(2 * time.Hour), Duration(4 * time.Hour), Duration(8 * time.Hour),
			},
			Lifetime: Duration(5 * day), DelayWarning: Duration(4 * time.Hour),
		},
		Bounce: Bounce{
			To: "sender", HideTarget: true, ReportLimit: 3, PerAddressLimit: 20,
			SuspendAfter: 5, SuspendWithin: Duration(7 * day),
		},
		DNS: DNS{Timeout: Duration(5 * time.Second)},
		Log: Log{Format: "text", Level: "info"},
	}
}

// FindConfig is the file that "-c" names, or where it names none the first that
// exists of srsd.toml in the working directory and /etc/srsd/srsd.toml.
func FindConfig(flag string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	places := []string{"srsd.toml", "/etc/srsd/srsd.toml"}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("no configuration: neither %s nor %s exists; name one with -c FILE", places[0], places[1])
}

// LoadConfig reads and checks a configuration file. An error names the file,
// and the line and key where it can.
func LoadConfig(path string) (Config, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Config{}, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return Config{}, fmt.Errorf("%s: there is no such file", path)
		}
		return Config{}, err
	}
	c := Default()
	md, err := toml.Decode(string(data), &c)
	if err != nil {
		return Config{}, decodeError(path, data, err)
	}
	for _, key := range md.Undecoded() {
		return Config{}, keyError(path, data, key.String(), "unknown key; docs/configuration.md lists the keys")
	}
	c.File = path
	c.absolute(filepath.Dir(path))
	if err := c.check(); err != nil {
		var bad badKey
		if errors.As(err, &bad) {
			return Config{}, keyError(path, data, bad.key, bad.text)
		}
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// absolute makes every path of the configuration start at dir.
func (c *Config) absolute(dir string) {
	for _, p := range []*string{
		&c.DataDir, &c.TLS.Certificate, &c.TLS.Key, &c.Forward.ForwardDir, &c.Forward.IncludeDir,
		&c.SRS.Secrets, &c.Deliver.SmarthostPassword,
	} {
		*p = under(dir, *p)
	}
	for i := range c.Forward.Aliases {
		c.Forward.Aliases[i] = under(dir, c.Forward.Aliases[i])
	}
}

func under(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
