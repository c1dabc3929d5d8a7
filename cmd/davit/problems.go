package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"davit/internal/client"
)

// explained is an error as it is printed: the sentence, then what is wrong
// with each field of the request, one to a line, and what to do about it.
func explained(err error) string {
	var problem *client.Error
	if !errors.As(err, &problem) {
		return err.Error()
	}
	var b strings.Builder
	b.WriteString(headline(err, problem))
	for _, f := range problem.Fields {
		where := f.Pointer
		if where == "" {
			where = f.Location
		}
		fmt.Fprintf(&b, "\n  %s: %s", cell(where), cell(f.Message))
	}
	switch problem.Status {
	case http.StatusUnauthorized:
		fmt.Fprintf(&b, "\nGive another token with --token-file FILE or %s; davit token create makes one.", envToken)
	case http.StatusPreconditionFailed:
		b.WriteString("\nSomebody has edited the record in the meantime. Look at it again and repeat the command, or overwrite the other edit with --force.")
	}
	return b.String()
}

// headline is the error's own text, or less if the lines about the fields say
// all of it.
func headline(err error, problem *client.Error) string {
	if len(problem.Fields) == 0 || err != error(problem) {
		return err.Error()
	}
	for _, f := range problem.Fields {
		if !strings.Contains(problem.Detail, f.Message) {
			return err.Error()
		}
	}
	return "The request is not valid:"
}
