package storage

import (
	"bytes"
	"fmt"
	"io"
)

// ReadBody reads and closes the body of a response. length is the announced length, or nil.
func ReadBody(body io.ReadCloser, length *int64, limit int64) (content []byte, err error) {
	defer func() {
		if closeErr := body.Close(); err == nil && closeErr != nil {
			err = closeErr
		}
	}()
	if length != nil && *length > limit {
		return nil, ErrTooLarge
	}
	var read bytes.Buffer
	if length != nil && *length >= 0 {
		read.Grow(int(*length) + bytes.MinRead) // length is at most limit, and the buffer does not grow again
	}
	_, err = read.ReadFrom(io.LimitReader(body, limit+1))
	content = read.Bytes()
	switch {
	case err != nil:
		return nil, err
	case int64(len(content)) > limit:
		return nil, ErrTooLarge
	case length != nil && *length >= 0 && int64(len(content)) != *length:
		return nil, fmt.Errorf("%d bytes of %d arrived: %w", len(content), *length, io.ErrUnexpectedEOF)
	}
	return content, nil
}

// LockLimit is the largest object that Locker.Version reads, in bytes.
const LockLimit = 1 << 20

// VisitPage calls visit, unless the page is empty.
func VisitPage(page []Object, visit func([]Object) error) error {
	if len(page) == 0 {
		return nil
	}
	return visit(page)
}
