package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write the manual pages to a directory",
		Long: "Man writes a page for each command, rigatoni.1, rigatoni-run.1 and so on, with the text of its help.\n" +
			"The directory is made if it isn't there.",
		Example: "  rigatoni man /usr/local/share/man/man1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ending(writeManual(cmd.Root(), args[0]))
		},
	}
}

// writeManual writes the pages of a command and of those below it.
func writeManual(cmd *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	page, err := manPage(cmd)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, pageName(cmd)+".1"), page, 0o666); err != nil {
		return err
	}
	for _, c := range cmd.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		if err := writeManual(c, dir); err != nil {
			return err
		}
	}
	return nil
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manPage is a page whose text is that of the help, line by line.
func manPage(cmd *cobra.Command) ([]byte, error) {
	var b, usage bytes.Buffer
	out := cmd.OutOrStdout()
	cmd.SetOut(&usage)
	err := cmd.Usage()
	cmd.SetOut(out)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(&b, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(pageName(cmd)), pageName(cmd), roff(cmd.Short))
	section := func(name, text string) {
		fmt.Fprintf(&b, ".SH %s\n.nf\n%s\n.fi\n", name, roff(strings.Trim(text, "\n")))
	}
	section("DESCRIPTION", cmd.Long)
	section("USAGE", strings.TrimPrefix(strings.TrimLeft(usage.String(), "\n"), "Usage:\n"))
	var also []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			also = append(also, pageName(c)+"(1)")
		}
	}
	if cmd.HasParent() {
		also = append(also, pageName(cmd.Parent())+"(1)")
	}
	section("SEE ALSO", strings.Join(also, ", "))
	return b.Bytes(), nil
}

// roff is text in ASCII in which nothing is a request.
func roff(text string) string {
	lines := strings.Split(strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
			lines[i] = `\&` + line
		}
	}
	var b strings.Builder
	for _, r := range strings.Join(lines, "\n") {
		if r < 0x80 {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\[u%04X]`, r)
		}
	}
	return b.String()
}
