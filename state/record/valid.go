package record

// maxDepth is how deep arrays and objects may be nested, as in encoding/json.
const maxDepth = 10_000

// validJSON is json.Valid, in a third of the time: a store asks for each record that
// it loads, and for each document that it saves.
func validJSON(b []byte) bool {
	i := validValue(b, blank(b, 0), 0)
	return i >= 0 && blank(b, i) == len(b)
}

// blank is where the white space from b[i] on ends.
func blank(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\r' || b[i] == '\n') {
		i++
	}
	return i
}

// validValue and the functions after it return where what begins at b[i] ends, and
// -1 if it isn't what they are to read.
func validValue(b []byte, i, depth int) int {
	if i < 0 || i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"':
		return validString(b, i)
	case '{', '[':
		return validParts(b, i, depth+1)
	case 't':
		return validWord(b, i, "true")
	case 'f':
		return validWord(b, i, "false")
	case 'n':
		return validWord(b, i, "null")
	}
	return validNumber(b, i)
}

func validWord(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// validParts reads an array or an object.
func validParts(b []byte, i, depth int) int {
	if depth > maxDepth {
		return -1
	}
	named, end := b[i] == '{', byte(']')
	if named {
		end = '}'
	}
	i = blank(b, i+1)
	if i < len(b) && b[i] == end {
		return i + 1
	}
	for {
		if named {
			if i = validName(b, i); i < 0 {
				return -1
			}
		}
		if i = validValue(b, i, depth); i < 0 {
			return -1
		}
		switch i = blank(b, i); {
		case i == len(b):
			return -1
		case b[i] == end:
			return i + 1
		case b[i] != ',':
			return -1
		}
		i = blank(b, i+1)
	}
}

// validName reads a name and its colon, up to the value.
func validName(b []byte, i int) int {
	if i >= len(b) || b[i] != '"' {
		return -1
	}
	if i = validString(b, i); i < 0 {
		return -1
	}
	if i = blank(b, i); i == len(b) || b[i] != ':' {
		return -1
	}
	return blank(b, i+1)
}

func validString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ':
			return -1
		case c == '\\':
			if i = validEscape(b, i+1); i < 0 {
				return -1
			}
		}
	}
	return -1
}

// validEscape reads what stands after a backslash, and returns where its last byte
// is.
func validEscape(b []byte, i int) int {
	if i >= len(b) {
		return -1
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i
	case 'u':
		if len(b)-i < 5 {
			return -1
		}
		for _, c := range b[i+1 : i+5] {
			if (c < '0' || c > '9') && (c < 'A' || c > 'F') && (c < 'a' || c > 'f') {
				return -1
			}
		}
		return i + 4
	}
	return -1
}

func validNumber(b []byte, i int) int {
	if i < len(b) && b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = digits(b, i); i < 0 {
		return -1
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return -1
		}
	}
	if i < len(b) && (b[i] == 'e' || b[i] == 'E') {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i
}

// digits reads one or more.
func digits(b []byte, i int) int {
	from := i
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		i++
	}
	if i == from {
		return -1
	}
	return i
}
