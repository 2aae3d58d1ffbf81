package policy

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"regsweep/internal/human"

	"go.yaml.in/yaml/v2"
)

// node is a value or a key in a YAML file. The parser's own decoding is not used: it ignores a key without a
// value, and a rule whose tags are ignored selects all tags.
type node struct {
	line   int
	text   string // as it is written: 1.10 is no number
	isText bool
	decode func(to any) error
}

var linePattern = regexp.MustCompile(`^line (\d+): `)

// UnmarshalYAML implements yaml.Unmarshaler. The parser does not call it for null and ~.
func (n *node) UnmarshalYAML(decode func(any) error) error {
	*n = node{decode: decode}
	n.isText = decode(&n.text) == nil
	var never chan int // the parser says a line only in its errors
	var failed *yaml.TypeError
	switch err := decode(&never); {
	case err == nil: // NULL
		*n = node{}
	case !errors.As(err, &failed):
		return err
	default:
		n.line, _ = strconv.Atoi(linePattern.FindStringSubmatch(failed.Errors[0])[1])
	}
	return nil
}

// UnmarshalText implements encoding.TextUnmarshaler. The parser calls it for "null" and "~" in quotes.
func (n *node) UnmarshalText(text []byte) error {
	*n = node{text: string(text), isText: true}
	return nil
}

func (n node) isNull() bool { return n.decode == nil && !n.isText }

// errorf returns an error with the line of the node.
func (n node) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: "+format, append([]any{n.line}, args...)...)
}

// readYAML returns the only document of a file. An error is one line.
func readYAML(content []byte) (root node, err error) {
	for i, line := range bytes.Split(content, []byte("\n")) {
		if !utf8.Valid(line) || bytes.ContainsFunc(line, func(r rune) bool { return r < ' ' && r != '\t' && r != '\r' || r == 0x7f }) {
			return root, node{line: i + 1}.errorf("want text in UTF-8")
		}
	}
	file := yaml.NewDecoder(bytes.NewReader(content))
	file.SetStrict(true)
	if err := file.Decode(&root); err != nil && err != io.EOF {
		return root, syntaxError(err, content)
	}
	if file.Decode(&node{}) != io.EOF {
		return root, node{line: 1}.errorf("want one document: remove the lines from the second --- on")
	}
	return root, nil
}

var (
	unknownAlias = regexp.MustCompile(`unknown anchor '(.*)' referenced`)
	fromParser   = regexp.MustCompile(`did not find expected (<|node content|key|'-'|',')`)
)

// syntaxError returns an error of the parser in one line.
func syntaxError(err error, content []byte) error {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if alias := unknownAlias.FindStringSubmatch(text); alias != nil {
		before, _, _ := bytes.Cut(content, []byte("*"+alias[1]))
		return node{line: 1 + bytes.Count(before, []byte("\n"))}.errorf("a pattern that begins with * needs quotes, as in \"*%s\"", alias[1])
	}
	if parts := linePattern.FindStringSubmatch(text); parts != nil {
		line, _ = strconv.Atoi(parts[1])
		text = text[len(parts[0]):]
		if fromParser.MatchString(text) {
			line = min(line+1, 1+bytes.Count(bytes.TrimRight(content, "\n"), []byte("\n"))) // it counts from 0 here
		}
	}
	if strings.Contains(text, "expected '-' indicator") {
		return node{line: line}.errorf("the indentation differs from that of the line before")
	}
	return node{line: line}.errorf("this is not YAML: %s; patterns need quotes, and lines begin with spaces instead of tabs", strings.Join(strings.Fields(text), " "))
}

// number returns a whole number that is written without quotes. 0.9 and 010 are whole numbers to YAML, but not here.
func (n node) number() (number int, isNumber bool) {
	isNumber = n.decode != nil && n.decode(&number) == nil && strconv.Itoa(number) == n.text
	return number, isNumber
}

// keys parses a map. It calls the function of each key, in the order of the file. form is an example for an error.
func (n node) keys(form string, parse map[string]func(node) error) error {
	var values map[*node]node
	var own yaml.MapSlice // without what a merge key << adds
	err := n.decode(&values)
	if err == nil {
		err = n.decode(&own)
	}
	switch failed := (*yaml.TypeError)(nil); {
	case errors.As(err, &failed):
		return n.errorf("want keys with values, as in %s", form)
	case err != nil:
		return n.errorf("%s", strings.TrimPrefix(err.Error(), "yaml: "))
	case len(own) != len(values):
		return n.errorf("the merge key << is not supported: it hides what a rule has")
	}
	if _, isNull := values[nil]; isNull {
		return n.errorf("a key is empty")
	}
	inOrder := func(a, b *node) int { return cmp.Or(cmp.Compare(a.line, b.line), strings.Compare(a.text, b.text)) }
	seen := map[string]bool{}
	for _, key := range slices.SortedFunc(maps.Keys(values), inOrder) {
		value, of := values[key], parse[key.text]
		switch {
		case !key.isText:
			return key.errorf("a key is a word")
		case of == nil && strings.Contains(key.text, "pull"):
			return key.errorf("there is no key %s: a storage does not say when an image was pulled", key.text)
		case of == nil:
			return key.errorf("there is no key %s here%s", key.text, human.DidYouMean(human.Closest(key.text, slices.Sorted(maps.Keys(parse)))))
		case seen[key.text]:
			return key.errorf("the key %s is there twice", key.text)
		case value.isNull():
			return key.errorf("%s has no value", key.text)
		}
		value.line = cmp.Or(value.line, key.line)
		seen[key.text] = true
		if err := of(value); err != nil {
			return err
		}
	}
	return nil
}

// list returns a function that parses a list with a function for each item. want is the error for another value.
func list[T any](want string, to *[]T, parse func(*T, node) error) func(node) error {
	return func(n node) error {
		var items []node
		if err := n.decode(&items); err != nil {
			return n.errorf("%s", want)
		}
		*to = make([]T, len(items))
		for i, item := range items {
			if item.isNull() {
				return n.errorf("item %d of the list is empty", i+1)
			}
			item.line = cmp.Or(item.line, n.line)
			if err := parse(&(*to)[i], item); err != nil {
				return err
			}
		}
		return nil
	}
}

// text returns a function that parses a text.
func text(to *string) func(node) error {
	return func(n node) error {
		if !n.isText || n.text == "" {
			return n.errorf("want a text")
		}
		*to = n.text
		return nil
	}
}
