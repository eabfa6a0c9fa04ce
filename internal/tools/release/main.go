// Command release proves a release before it is published, and prints the commands
// that publish it.
//
//	go run ./internal/tools/release [-version v0.1.0] [-write] [-keep dir]
//	go run ./internal/tools/release -tidy
//
// The modules of this repository require each other in the version that is
// released next. Inside the workspace that version need not exist; whether it will
// work for users can't be seen there, and a published version can't be changed.
// So: HEAD is cloned, its modules are tidied and tagged in the clone, and the go
// command builds a module proxy of files from the tags, as it will for users. From
// that proxy the command is installed, and programs of users are built.
//
// Nothing is pushed, and no tag is created outside the clone. Without -write and
// -tidy nothing in the working tree changes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	flags.SetOutput(stderr)
	version := flags.String("version", "", "the version to release (default: the one in which the modules require each other)")
	keep := flags.String("keep", "", "a `directory` to work in, which is created and kept (default: a temporary one, removed at the end)")
	write := flags.Bool("write", false, "write what the release must commit into the working tree")
	tidy := flags.Bool("tidy", false, "only tidy every go.mod and go.sum of the working tree, as go mod tidy can't before the release is out")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%q is no flag; the version is given as -version v0.1.0", flags.Arg(0))
	}
	source, err := repository(ctx, ".")
	if err != nil {
		return err
	}
	t, err := newTrial(ctx, source, *keep, *version, stderr)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	if *tidy {
		return t.tidyOnly(ctx, stdout)
	}
	if err := t.refuseTagged(ctx); err != nil {
		return err
	}
	if err := t.prove(ctx); err != nil {
		return err
	}
	return t.instruct(ctx, stdout, *write)
}

// tidyOnly omits the sums of this repository's own modules: they change with
// every commit before the release, and the workspace does not use them.
func (t *trial) tidyOnly(ctx context.Context, stdout io.Writer) error {
	if err := t.tidyAll(ctx); err != nil {
		return err
	}
	for _, m := range modules {
		if err := t.dropOwnSums(m); err != nil {
			return err
		}
	}
	files, err := t.changed(ctx)
	if err != nil {
		return err
	}
	if err := t.writeBack(ctx, files); err != nil {
		return err
	}
	for _, name := range files {
		fmt.Fprintln(stdout, name)
	}
	return nil
}

// refuseTagged refuses a version that has a tag: proxies keep a published
// version forever, so a second tag of the same name would be seen by some users
// and not by others.
func (t *trial) refuseTagged(ctx context.Context) error {
	for _, m := range modules {
		if !m.published {
			continue
		}
		tag := m.tag(t.version)
		if out, err := output(ctx, t.source, nil, "git", "tag", "--list", tag); err != nil {
			return err
		} else if out != "" {
			return fmt.Errorf("there is a tag %s already; choose the next version with -version", tag)
		}
	}
	return nil
}

// instruct prints the remaining manual steps as commands.
func (t *trial) instruct(ctx context.Context, stdout io.Writer, write bool) error {
	dirty, err := output(ctx, t.source, nil, "git", "status", "--porcelain", "--untracked-files=no")
	if err != nil {
		return err
	}
	files, err := t.changed(ctx)
	if err != nil {
		return err
	}
	if write {
		if err := t.writeBack(ctx, files); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "%s is proven, as of commit %.12s.\n", t.version, t.head)
	if dirty != "" {
		fmt.Fprintln(stdout, "Changes that are not committed are no part of it.")
	}
	if len(t.untidy) > 0 {
		fmt.Fprintf(stdout, "\nNot tidy, and tidied in what is to be committed: %s\n", strings.Join(t.untidy, ", "))
	}
	fmt.Fprint(stdout, instructions(t.version, files, write))
	return nil
}

func instructions(version string, files []string, written bool) string {
	var b strings.Builder
	if len(files) > 0 {
		names := strings.Join(files, " ")
		b.WriteString("\nCommit these first, on that commit and with nothing else: the sums in them are\nof the modules as they were proven.\n\n")
		if !written {
			fmt.Fprintf(&b, "    go run ./internal/tools/release -version %s -write\n", version)
		}
		fmt.Fprintf(&b, "    git add %s\n    git commit -m 'Release %s' -- %s\n", names, version, names)
	}
	var tags []string
	for _, m := range modules {
		if m.published {
			tags = append(tags, m.tag(version))
		}
	}
	b.WriteString("\nThen tag all modules at the one commit, and push:\n\n")
	for _, tag := range tags {
		fmt.Fprintf(&b, "    git tag %s\n", tag)
	}
	fmt.Fprintf(&b, "    git push --atomic origin HEAD %s\n", strings.Join(tags, " "))
	return b.String()
}

// base is the path of the root module; the others are below it.
const base = "github.com/rigatoni-etl/rigatoni"

// A module is one of this repository.
type module struct {
	dir       string // from the root of the repository
	published bool   // tagged; the others are only built
}

// Each module comes after those that it requires.
var modules = []module{
	{".", true},
	{"stores/pgstore", true},
	{"stores/redisstore", true},
	{"destinations/postgres", true},
	{"otelrigatoni", true},
	{"cmd/rigatoni", true},
	{"examples", false},
}

func (m module) path() string { return path.Join(base, m.dir) }

// tag returns the name of the tag for a version of a module that is not at the
// root of its repository: https://go.dev/ref/mod#vcs-version
func (m module) tag(version string) string { return path.Join(m.dir, version) }

func (m module) file(name string) string { return path.Join(m.dir, name) }
