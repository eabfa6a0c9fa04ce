package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// answerTime is how long the status server of a pipeline may take.
const answerTime = 5 * time.Second

// checkRunning asks the pipeline that runs whether it is ready. addr is that of
// --http.
func checkRunning(ctx context.Context, w io.Writer, addr string) error {
	if addr == "" {
		return usageError{errors.New("--running asks the pipeline that runs, at the address of its status page: give --http, or http in the file")}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	page := "http://" + reachable(addr) + "/readyz"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return usageError{fmt.Errorf("--http is %q: %w", addr, err)}
	}
	client := &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true}, // and no proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if ue := (*url.Error)(nil); errors.As(err, &ue) {
		err = ue.Err // the address stands in front already
	}
	if err != nil {
		return fmt.Errorf("no pipeline answers at %s: %w", page, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return fmt.Errorf("the answer of %s was interrupted: %w", page, err)
	}
	text := strings.TrimSpace(string(body))
	switch {
	case resp.StatusCode == http.StatusOK && text == "ready":
		_, err := fmt.Fprintln(w, "ready")
		return err
	case resp.StatusCode == http.StatusServiceUnavailable && strings.HasPrefix(text, "not ready"):
		return errors.New("the pipeline is " + strings.ReplaceAll(text, "\n", "\n  "))
	}
	return fmt.Errorf("%s is no status page of rigatoni: it answers %s", page, resp.Status)
}

// reachable is an address to connect to: an address to listen on may be a port, or all
// addresses of the machine.
func reachable(addr string) string {
	if _, err := strconv.ParseUint(addr, 10, 16); err == nil {
		addr = ":" + addr
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr // config has checked it
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
		if ip != nil && ip.To4() == nil {
			host = "::1"
		}
	}
	return net.JoinHostPort(host, port)
}
