package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"davit/internal/durable"
)

// BridgeLayout is the layout of the bridge's data folder. All folders so far have
// layout 1; those from before the file layout.json do not say so. Whatever an older
// program would read wrongly takes the next number.
const BridgeLayout = 1

// bridgeLayoutName is the file of a bridge's data folder that says its layout.
const bridgeLayoutName = "layout.json"

// bridgeLayout is what that file says.
type bridgeLayout struct {
	Layout  int    `json:"layout"`
	Program string `json:"program"` // the version of the program that wrote it
}

// checkBridgeLayout says what keeps a folder from being a bridge's of this program.
func checkBridgeLayout(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, storeName)); err == nil {
		return fmt.Errorf("data folder %s belongs to a service: it has %s; name the bridge's own folder with --data", dir, storeName)
	}
	path := filepath.Join(dir, bridgeLayoutName)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the layout of the data folder: %w", err)
	}
	var have bridgeLayout
	if err := json.Unmarshal(b, &have); err != nil || have.Layout < 1 {
		return fmt.Errorf("%s does not say a layout: it is damaged, or of another program; if the folder is a bridge's, remove the file", path)
	}
	if have.Layout > BridgeLayout {
		return fmt.Errorf("data folder %s has layout %d and was written by davit %s; this davit understands layouts up to %d: install davit %s or a newer one",
			dir, have.Layout, have.Program, BridgeLayout, have.Program)
	}
	return nil
}

// markBridgeLayout writes the layout into a folder that does not say it yet. The bridge
// has taken the folder.
func markBridgeLayout(dir string) error {
	if err := durable.RemoveTemp(dir); err != nil {
		return fmt.Errorf("sweep the data folder: %w", err)
	}
	path := filepath.Join(dir, bridgeLayoutName)
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	b, err := json.Marshal(bridgeLayout{BridgeLayout, ReadBuild().Version})
	if err == nil {
		err = durable.WriteFile(path, append(b, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the layout of the data folder: %w", err)
	}
	return nil
}
