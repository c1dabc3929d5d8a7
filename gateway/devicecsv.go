package gateway

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"davit/orchestrator"
)

// ReadDevicesCSV reads a list of devices from a CSV file (RFC 4180). The first
// line names the columns: id, type, and labels, either by their name or as
// label.NAME; an empty cell is no label. What is wrong with single lines stands in
// the list; the error, an ErrInvalid, is about the file as a whole.
func ReadDevicesCSV(r io.Reader) (DeviceList, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return DeviceList{}, err
	}
	b = bytes.TrimPrefix(b, []byte("\xef\xbb\xbf")) // a byte order mark, as spreadsheets write it
	if !utf8.Valid(b) {
		return DeviceList{}, wrongFile("it is not UTF-8 text; save it as CSV UTF-8")
	}
	rows := csv.NewReader(bytes.NewReader(b))
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if errors.Is(err, io.EOF) {
		return DeviceList{}, wrongFile("it is empty; the first line names the columns: id,type and any labels")
	}
	if err != nil {
		return DeviceList{}, wrongFile("line 1: %v", err)
	}
	columns, err := columnsOf(header)
	if err != nil {
		return DeviceList{}, err
	}
	list := DeviceList{Wrong: map[int]error{}}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if len(list.Devices) == maxImport {
			return DeviceList{}, tooMany()
		}
		if err != nil { // what follows a broken quotation cannot be told apart
			var parse *csv.ParseError
			if !errors.As(err, &parse) {
				return DeviceList{}, err
			}
			list.add(orchestrator.NewDevice{}, parse.Line, wrongFile("%v", parse.Err))
			break
		}
		line, _ := rows.FieldPos(0)
		list.row(columns, row, line)
	}
	if len(list.Devices) == 0 {
		return list, wrongFile("it has no device: one line for each follows the names of the columns")
	}
	return list, nil
}

func wrongFile(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{orchestrator.ErrInvalid}, args...)...)
}

func tooMany() error {
	return wrongFile("the list has more than %d devices; import it in parts", maxImport)
}

// column is where a cell belongs: in the id, the type, or a label.
type column struct{ field, label string }

// maxColumns is more than devices can have labels, because not every device has
// every label.
const maxColumns = 1000

func columnsOf(header []string) ([]column, error) {
	if len(header) > maxColumns {
		return nil, wrongFile("line 1: %d columns are too many, at most %d are allowed", len(header), maxColumns)
	}
	var columns []column
	for i, name := range header {
		name = strings.TrimSpace(name)
		c := column{label: name}
		if lower := strings.ToLower(name); lower == "id" || lower == "type" {
			c = column{field: lower}
		} else if label, ok := strings.CutPrefix(name, "label."); ok {
			c.label = label
		}
		if c == (column{}) {
			return nil, wrongFile("line 1: column %d has no name", i+1)
		}
		if slices.Contains(columns, c) {
			return nil, wrongFile("line 1: column %q is there twice", name)
		}
		columns = append(columns, c)
	}
	for _, field := range []string{"id", "type"} {
		if !slices.Contains(columns, column{field: field}) {
			return nil, wrongFile("line 1: there is no column %q; the first line names the columns: id,type and any labels", field)
		}
	}
	return columns, nil
}

func (l *DeviceList) add(d orchestrator.NewDevice, line int, wrong error) {
	if wrong != nil {
		l.Wrong[len(l.Devices)] = wrong
	}
	l.Devices, l.Lines = append(l.Devices, d), append(l.Lines, line)
}

// row reads one line; one without any text, as spreadsheets leave them at the
// end, is no device.
func (l *DeviceList) row(columns []column, row []string, line int) {
	if !slices.ContainsFunc(row, func(cell string) bool { return strings.TrimSpace(cell) != "" }) {
		return
	}
	var d orchestrator.NewDevice
	var wrong error
	if len(row) != len(columns) {
		wrong = wrongFile("%d cells, the first line has %d", len(row), len(columns))
	}
	for i, cell := range row[:min(len(row), len(columns))] {
		cell = strings.TrimSpace(cell)
		switch c := columns[i]; {
		case c.field == "id":
			d.ID = cell
		case c.field == "type":
			d.Type = cell
		case cell != "":
			if d.Labels == nil {
				d.Labels = map[string]string{}
			}
			d.Labels[c.label] = cell
		}
	}
	l.add(d, line, wrong)
}

// readDevicesJSON reads a JSON list of devices; its lines are counted from 1.
func readDevicesJSON(r io.Reader) (DeviceList, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return DeviceList{}, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(b, &items); err != nil {
		return DeviceList{}, wrongFile("the body is not a JSON list of devices: %v", err)
	}
	switch {
	case len(items) == 0:
		return DeviceList{}, wrongFile("the list has no device")
	case len(items) > maxImport:
		return DeviceList{}, tooMany()
	}
	list := DeviceList{Wrong: map[int]error{}}
	for i, item := range items {
		var d orchestrator.NewDevice
		dec := json.NewDecoder(bytes.NewReader(item))
		dec.DisallowUnknownFields()
		var wrong error
		if err := dec.Decode(&d); err != nil {
			wrong = wrongFile("%s", strings.TrimPrefix(err.Error(), "json: "))
		}
		list.add(d, i+1, wrong)
	}
	return list, nil
}
