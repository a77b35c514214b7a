package srs

import "strings"

// differences is the whole list of vectors that srsd does not reproduce. In
// every row either a classic has a hole, a bug or a crash, or what it refuses
// is harmless, or the row is about an option that belongs to the caller here.
var differences = []difference{
	// Null reverse-paths and addresses of the SRS domain itself: Forward returns
	// them as they are, which the classics report as an error or not at all.
	{"forward", "", "", "", null, "the null reverse-path stays null"},
	{"forward", `""`, "", "", null, "the null reverse-path as Postfix asks for it"},
	{"forward", "bob@fwd.example", "postsrsd-2", "", "bob@fwd.example", "unchanged; not-found is the answer of a map, which the caller gives"},
	{"forward", "bob@FWD.Example", "postsrsd-2", "", "bob@FWD.Example", "unchanged; not-found is the answer of a map, which the caller gives"},
	{"forward", "bob@fwd.example", "postsrsd-1", "-A", "bob@fwd.example", "an address that comes home anyway is never rewritten: mail would loop through its own SRS0"},
	{"forward", "bob@fwd.example", "", "lways", "bob@fwd.example", "an address that comes home anyway is never rewritten: mail would loop through its own SRS0"},

	// Which senders to rewrite at all is for the caller to say.
	{"forward", "alice@example.com", "postsrsd", "example.com", "SRS0=OOpg=G3=example.com=alice@fwd.example", "exclusion lists are the caller's"},
	{"forward", "alice@EXAMPLE.com", "postsrsd", "example.com", "SRS0=OOpg=G3=EXAMPLE.com=alice@fwd.example", "exclusion lists are the caller's"},
	{"forward", "SRS0=OOpg=G3=example.com=alice@other.example", "postsrsd-1", "", "SRS1=IWqF=other.example==OOpg=G3=example.com=alice@fwd.example", "bug: the address of another domain is left alone, and its SPF fails"},

	// Addresses that are none, or whose rewriting would be none.
	{"forward", "alice@example.com.", "", "", "", "no valid domain (RFC 5321, section 4.1.2)"},
	{"forward", "@example.com", "", "", "", "no local part"},
	{"forward", "alice@", "", "", "", "no domain"},
	{"forward", `"a@b"@example.com`, "", "", `"SRS0=E4Dl=G3=example.com=a@b"@fwd.example`, "bug: they cut at the first @, Mail::SRS refuses; the local part is quoted as a whole"},
	{"forward", "alice@[192.0.2.1]", "", "", `"SRS0=hU3J=G3=[192.0.2.1]=alice"@fwd.example`, "bug: brackets must be quoted in a local part; the hash is the same"},
	{"forward", `""@example.com`, "", "", "", "bug: theirs is no valid address; an empty local part is what a cut boundary leaves"},
	{"forward", strings.Repeat("x", 60) + "@example.com", "", "", "", "85 octets of local part, 64 are allowed: ErrTooLong, a token takes its place"},
	{"forward", "alice@" + strings.Repeat(strings.Repeat("d", 50)+".", 5) + "com", "", "", "", "258 octets of domain, 255 are allowed"},

	// SRS0 and SRS1 that no forwarder has written.
	{"forward", "SRS1=abc@hop1.example", "postsrsd-2", "", "SRS0=d_Rz=G3=hop1.example=SRS1=abc@fwd.example", "an error made of an odd sender; it is an ordinary address"},
	{"forward", "SRS1=abc@hop1.example", "", "", "SRS0=d/Rz=G3=hop1.example=SRS1=abc@fwd.example", "an error or an SRS1 without fields; it is an ordinary address"},
	{"forward", "SRS0=bob@g3victim.example", "", "", "SRS0=9sif=G3=g3victim.example=SRS0=bob@fwd.example", "hole: SRS1 signs any text, which then passes for an SRS0"},
	{"forward", libsrs2SRS1, "libsrs2", "+", "SRS1+V0kT=hop1.example==HHHH=TT=orig.example=alice@fwd.example", "bug: the old hash is taken for the host, and the address grows"},
	{"forward", libsrs2SRS1, "libsrs2", `"-"`, "SRS1-V0kT=hop1.example==HHHH=TT=orig.example=alice@fwd.example", "bug: the old hash is taken for the host, and the address grows"},
	{"forward", libsrs2SRS1, "libsrs2", "", "SRS1=V0kT=hop1.example==HHHH=TT=orig.example=alice@fwd.example", "bug: the old hash is taken for the host, and the address grows"},
	{"forward", "SRS1+GGGG=hop1.example=+HHHH=TT=orig.example=alice@hop2.example", "libsrs2", "", "SRS1=9vxm=hop1.example=+HHHH=TT=orig.example=alice@fwd.example", "bug: the old hash is taken for the host, and the address grows"},

	// Holes that the strict checks close.
	{"reverse", "SRS0=OOpg=G3=example.com=alice@elsewhere.example", "", "", "", "hole: the domain is not looked at; Retired lists further ones"},
	{"reverse", "SRS0=OOpg=G3=example.com=alice", "", "", "", "hole: the domain is not looked at"},
	{"reverse", "SRS0=OOpggarbage=G3=example.com=alice@fwd.example", "postsrsd", "", "", "hole: what follows the fourth character is ignored"},
	{"reverse", "SRS0=RDOU=AG3=example.com=alice@fwd.example", "", "", "", "hole: a timestamp of three characters shifts the next boundary"},
	{"reverse", "SRS0=kXCc=F=example.com=alice@fwd.example", "", "", "", "bug of mileusna/srs, which drops a leading A; PostSRSd refuses it too"},
	{"reverse", "SRS1=nKQb=hop1.example=garbage@fwd.example", "", "", "", "hole: an SRS1 that leads to no SRS0"},
	{"reverse", "SRS1=OOpg=G3example.com=alice@fwd.example", "", "", "", "hole: the hash of an SRS0 in an SRS1, which never expires"},
	{"reverse", "SRS0=3wcr=G3=victim.example==bob@fwd.example", "", "", "", "hole: the hash of an SRS1 in an SRS0 with a timestamp of choice"},
	{"reverse", "SRS1=V0kT=hop1.exampl=e=HHHH=TT=orig.example=alice@fwd.example", "", "", "", "hole: the boundary of an SRS1 shifted"},

	// Both alphabets are accepted, which only PostSRSd 2 does.
	{"reverse", "SRS0=Ztq-=G3=example.com=u6@fwd.example", "", "", "u6@example.com", "base64url, as PostSRSd 2 writes it, is refused"},
	{"reverse", "SRS0=o__1=G3=example.com=u2@fwd.example", "", "", "u2@example.com", "base64url, as PostSRSd 2 writes it, is refused"},
	{"reverse", "SRS0=fK_4=G3=example.com=u11@fwd.example", "", "", "u11@example.com", "base64url, as PostSRSd 2 writes it, is refused"},

	// PostSRSd's database holds what no key can tell.
	{"forward", "alice@example.com", "postsrsd-2", "database", "SRS0=OOpg=G3=example.com=alice@fwd.example", "the address itself is carried where it fits"},
	{"forward", `"a@b"@example.com`, "postsrsd-2", "database", `"SRS0=E4Dl=G3=example.com=a@b"@fwd.example`, "the address itself is carried where it fits"},
	{"reverse", "SRS0=lnlp=G3=1=08NVSQC1LDCKEN0Q2GLMVLCF6A2NMK0F@fwd.example", "postsrsd-2", "database", "", "the address is in PostSRSd's database"},
	{"reverse", "SRS0=ENCW=G3=1=I110VQFCL95LV3CVEMK0VL44G08JJU42@fwd.example", "postsrsd-2", "database", "", "the address is in PostSRSd's database"},
}

// null marks the wish for an empty result without an error.
const null = "<>"

const libsrs2SRS1 = "SRS1=GGGG=hop1.example==HHHH=TT=orig.example=alice@hop2.example"
