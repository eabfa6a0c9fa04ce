package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// git runs git in the clone, whatever identity and signing the user has set up.
func (t *trial) git(ctx context.Context, args ...string) error {
	settings := []string{"-c", "user.name=release", "-c", "user.email=release@localhost", "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false"}
	_, err := output(ctx, t.repo(), nil, "git", append(settings, args...)...)
	return err
}

// commit commits what has changed in the clone, if anything has.
func (t *trial) commit(ctx context.Context) error {
	if err := t.git(ctx, "add", "--all"); err != nil {
		return err
	}
	staged, err := output(ctx, t.repo(), nil, "git", "diff", "--cached", "--name-only")
	if err != nil || staged == "" {
		return err
	}
	return t.git(ctx, "commit", "-q", "--no-verify", "-m", "Release "+t.version)
}

func (t *trial) tag(ctx context.Context, m module) error {
	return t.git(ctx, "tag", "--force", m.tag(t.version))
}

// publish makes of a tagged module in the clone what users will get, below dir, and
// gives its sum. The go command itself makes it, as it does for those who fetch from
// git: which files belong in, and that a module without a licence gets the root's, is
// not for us to copy. Its download cache has the form of a module proxy.
func (t *trial) publish(ctx context.Context, m module, dir string) (string, error) {
	env := append([]string{
		"GOMODCACHE=" + filepath.Join(t.dir, dir), "GOPROXY=direct", ownUnknown,
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url." + fileURL(t.repo()) + ".insteadOf", "GIT_CONFIG_VALUE_0=https://" + base,
	}, common...)
	out, err := output(ctx, t.dir, env, "go", "mod", "download", "-json", m.path()+"@"+t.version)
	if err != nil {
		return "", fmt.Errorf("publish %s: %w\n%s", m.path(), err, out)
	}
	var made struct{ Version, Sum string }
	if err := json.Unmarshal([]byte(out), &made); err != nil {
		return "", err
	}
	if made.Version != t.version || !strings.HasPrefix(made.Sum, "h1:") {
		return "", fmt.Errorf("publish %s: asked for %s, got %s with sum %q", m.path(), t.version, made.Version, made.Sum)
	}
	return made.Sum, nil
}

// lockstep checks that all modules can be tagged at one commit: the last one, which
// has the sums of all in it. While tidying, each was published from an earlier one.
func (t *trial) lockstep(ctx context.Context) error {
	for _, m := range modules {
		if !m.published {
			continue
		}
		if err := t.tag(ctx, m); err != nil {
			return err
		}
		sum, err := t.publish(ctx, m, "lockstep")
		if err != nil {
			return err
		}
		if sum != t.sums[m.path()] {
			return fmt.Errorf("%s is %s when tagged where the others are, but they ask for %s", m.path(), sum, t.sums[m.path()])
		}
	}
	return nil
}
