package changestream

import (
	"errors"
	"net/url"
	"strings"
)

// Check returns the errors that [Open] has for options and a connection string that
// are not valid. It connects to nothing, and looks up no host names; a mongodb+srv://
// string is checked as far as that goes.
func Check(uri string, o *Options) error {
	s, err := newSource(o)
	if err != nil {
		s = &Source{}
	}
	if srv, ok := strings.CutPrefix(uri, "mongodb+srv://"); ok {
		if uri, ok = withoutLookup(srv); !ok {
			return errors.Join(err, errors.New("changestream: the connection string is not valid: mongodb+srv:// takes one host name, without a port"))
		}
	}
	_, uerr := s.clientOptions(uri)
	return errors.Join(err, uerr)
}

// withoutLookup is a mongodb+srv:// string, without its scheme, as one that no host
// is looked up for. It returns false if the hosts are not those of such a string.
func withoutLookup(srv string) (uri string, ok bool) {
	before, query, _ := strings.Cut(srv, "?")
	host, _, hasPath := strings.Cut(before[strings.LastIndexByte(before, '@')+1:], "/")
	if strings.ContainsAny(host, ":,") {
		return "", false
	}
	if !hasPath {
		before += "/"
	}
	params := strings.Split(query, "&")
	kept := params[:0]
	for _, p := range params {
		name, _, _ := strings.Cut(p, "=")
		if name, err := url.QueryUnescape(name); err == nil && strings.HasPrefix(strings.ToLower(name), "srv") {
			continue
		}
		kept = append(kept, p)
	}
	return "mongodb://" + before + "?" + strings.Join(kept, "&"), true
}
