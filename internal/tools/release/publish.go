package main

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
)

// git runs git in the clone, independent of the user's identity and signing.
func (t *trial) git(ctx context.Context, args ...string) error {
	settings := []string{"-c", "user.name=release", "-c", "user.email=release@localhost", "-c", "commit.gpgSign=false", "-c", "tag.gpgSign=false"}
	_, err := output(ctx, t.repo(), nil, "git", append(settings, args...)...)
	return err
}

// commit commits the changes in the clone, if there are any.
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

// publish creates, below dir, what users will get for a tagged module in the
// clone, and returns its sum. The go command itself creates it, as it does for
// those who fetch from git, so that its rules (which files belong in it, that a
// module without a license gets the root's) are not copied here. Its download
// cache has the layout of a module proxy.
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

// lockstep checks that all modules can be tagged at one commit: the last one,
// which contains the sums of all. While tidying, each was published from an
// earlier one.
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
