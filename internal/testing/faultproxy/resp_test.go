package faultproxy

import (
	"bufio"
	"strings"
	"testing"
)

func TestReadReply(t *testing.T) {
	for _, text := range []string{
		"+OK\r\n", "-ERR x\r\n", ":1\r\n", "_\r\n", "#t\r\n", ",1.5\r\n", "(123\r\n", "$-1\r\n", "*-1\r\n", "$2\r\na\n\r\n", "*0\r\n",
		"*2\r\n$1\r\na\r\n*1\r\n:5\r\n", "%1\r\n+a\r\n*1\r\n$1\r\nb\r\n", "~1\r\n:1\r\n", ">2\r\n+message\r\n+x\r\n",
		"|1\r\n+ttl\r\n:1\r\n$1\r\nv\r\n", "!3\r\nERR\r\n", "=5\r\ntxt:a\r\n",
	} {
		r := bufio.NewReader(strings.NewReader(text + "+next\r\n"))
		raw, unasked, err := readReply(r)
		if err != nil || string(raw) != text || unasked != (text[0] == '>') {
			t.Errorf("%q: %q, %v, %v", text, raw, unasked, err)
		}
		if rest, _ := r.ReadString('\n'); rest != "+next\r\n" {
			t.Errorf("%q: then %q", text, rest)
		}
	}
	for _, text := range []string{"", "$5\r\nab", "?\r\n", "$x\r\n", "*2\r\n:1\r\n"} {
		if raw, _, err := readReply(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q is read as %q", text, raw)
		}
	}
}

func TestReadRequest(t *testing.T) {
	for text, want := range map[string]string{
		"PING a\r\n":                      "PING|a",
		"*2\r\n$3\r\nGET\r\n$1\r\n\n\r\n": "GET|\n",
		"*1\r\n$0\r\n\r\n":                "",
	} {
		raw, args, err := readRequest(bufio.NewReader(strings.NewReader(text + "more")))
		var words []string
		for _, a := range args {
			words = append(words, string(a))
		}
		if err != nil || string(raw) != text || strings.Join(words, "|") != want {
			t.Errorf("%q: %q, %q, %v", text, raw, words, err)
		}
	}
	for _, text := range []string{"", "PING", "*1\r\n:1\r\n", "*1\r\n$5\r\nab", "*x\r\n", "*1\r\n$-2\r\n"} {
		if raw, _, err := readRequest(bufio.NewReader(strings.NewReader(text))); err == nil {
			t.Errorf("%q is read as %q", text, raw)
		}
	}
}
