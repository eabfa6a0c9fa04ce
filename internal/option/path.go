package option

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// variableName finds a variable in a path, which only a shell would fill in.
var variableName = regexp.MustCompile(`\$(\{\w+\}?|[A-Za-z_]\w*)`)

// Path returns the path with the home directory in place of ~ or $HOME at its
// beginning. Others that only a shell understands are refused: a directory
// named "~" or "$STATE" is never what was meant. The error continues after the
// path.
func Path(given string) (string, error) {
	parts := strings.Split(filepath.ToSlash(given), "/")
	head := parts[0]
	if head == "~" || head == "$HOME" || head == "${HOME}" {
		home, err := os.UserHomeDir()
		if err != nil {
			return "", fmt.Errorf("begins with %s, and the environment doesn't say what the home directory is; write the path in full", head)
		}
		given, parts = filepath.Join(append([]string{home}, parts[1:]...)...), parts[1:]
	} else if strings.HasPrefix(head, "~") {
		return "", fmt.Errorf("begins with %q, which is not replaced by a home directory; write the path in full, or ./%s for that name", clipped(head), clipped(head))
	}
	rest := strings.Join(parts, "/")
	switch {
	case slices.Contains(parts, "~"):
		return "", errors.New("has a ~ that is not at its beginning, where it would be the home directory; write the path in full")
	case variableName.MatchString(rest):
		return "", fmt.Errorf("has %q in it, which is not replaced in a path (only ~/ and $HOME/ at its beginning are); write the path in full", clipped(variableName.FindString(rest)))
	}
	return given, nil
}
