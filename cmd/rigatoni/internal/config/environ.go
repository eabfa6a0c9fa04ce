package config

import (
	"regexp"
	"strings"

	"github.com/rigatoni-etl/rigatoni/cmd/rigatoni/internal/suggest"
)

const envPrefix = "RIGATONI_"

// EnvName is the variable of the environment that sets an option:
// RIGATONI_SAVE_INTERVAL for save-interval. With _FILE at its end it names a file
// that has the value, as secrets do.
func EnvName(option string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(option, "-", "_"))
}

// FileVariable is the variable of the environment that names the pipeline file.
const FileVariable = envPrefix + "CONFIG"

// environment reads the settings that are variables of the environment.
func (r *reader) environment(environ []string) {
	if r.env == nil {
		return
	}
	for _, f := range Fields {
		name := EnvName(f.Option.Name)
		text, given := r.env(name)
		path, inFile := r.env(name + "_FILE")
		switch {
		case !given && !inFile:
			continue
		case f.Option.Once:
			r.problem(name, "", "applies to one start only and can't be in the environment, where it would apply to every start; give --%s", f.Option.Name)
		case given && inFile:
			r.problem(name, "", "is set, and %s_FILE as well; unset one of them", name)
		case inFile:
			r.variableFile(f, name+"_FILE", path)
		case text == "":
			r.problem(name, "", "is empty; unset it for the default")
		default:
			r.override(f, name, f.split(text), "only a file has such variables; write the value, or name a file that has it in "+name+"_FILE")
		}
		r.inEnv = true
	}
	for _, v := range environ {
		if name, _, _ := strings.Cut(v, "="); !r.filledIn[name] {
			r.misnamed(name)
		}
	}
}

// variableFile reads a setting from the file that a variable names.
func (r *reader) variableFile(f Field, name, path string) {
	text, err := secretFile(path)
	if err != nil {
		r.forget(f.Option.Name)
		r.problem(name, "", "names %s", err)
		return
	}
	r.forget(f.Option.Name)
	r.s.origin[f.Option.Name] = name
	if err := f.set(&r.s, f.split(text), "the contents of "+path); err != nil {
		r.refused(name, f.Option.Name, err)
	}
}

// serviceVariable finds the variables that Kubernetes sets in every container for
// a service named rigatoni, or rigatoni-something.
var serviceVariable = regexp.MustCompile(`^RIGATONI(_\w+)?_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

// misnamed refuses a variable whose name is nearly that of a setting, and warns of
// one that looks like a setting and is none.
func (r *reader) misnamed(name string) {
	upper := strings.ToUpper(name)
	if !strings.HasPrefix(upper, envPrefix) || serviceVariable.MatchString(name) || name == FileVariable {
		return
	}
	option := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(upper[len(envPrefix):], "_FILE"), "_", "-"))
	f, ok := ByName(option)
	if right := EnvName(f.Option.Name); ok && name != right && name != right+"_FILE" {
		r.problem("", name, "is not read; the names of variables are in capitals: %s", upper)
		return
	} else if ok {
		return
	}
	if similar := suggest.Similar(option, inFiles()); similar != nil {
		r.problem("", name, "is no setting; did you mean %s?", EnvName(similar[0]))
		return
	}
	r.s.Ignored = append(r.s.Ignored, clip(name))
}
