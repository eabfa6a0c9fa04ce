package backend

import (
	"errors"
	"net/url"
	"strings"
)

var errNoURL = errors.New("this is no URL; if it has a password, its special characters must be written as %40 for @, %3A for :, %2F for / and so on")

// parseURL is url.Parse for URLs with several hosts, too, some of which that
// refuses; they stand in URL.Host, with commas between them. Its error shows no
// part of the URL.
func parseURL(text string) (*url.URL, error) {
	single, hosts := cutHosts(text)
	u, err := url.Parse(single)
	if err != nil {
		return nil, errNoURL
	}
	if hosts != "" {
		u.Host = hosts
	}
	return u, nil
}

// cutHosts replaces a URL's hosts by one name, if there are several.
func cutHosts(text string) (single, hosts string) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text, ""
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	if hosts = rest[begin:end]; !strings.Contains(hosts, ",") {
		return text, ""
	}
	return scheme + "://" + rest[:begin] + "hosts" + rest[end:], hosts
}
