package sim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"davit/schemas/afpro"
)

var (
	errRefused = errors.New("the MCU said IDLE")
	errStopped = errors.New("the MCU stopped the transfer early")
	errSum     = errors.New("the MCU has other bytes than were sent")
	errOffset  = errors.New("the MCU wants an offset that does not exist")
)

const (
	newApplication = afpro.ExtendedStates + 1
	otaPatience    = 8 * time.Second
)

// boot starts up as a new module does, until the MCU has noticed.
func (a *asr) boot() error {
	var err error
	for range 4 {
		if err = a.startUp(2, newApplication, afpro.ASRInitialized); err == nil {
			_, err = a.await(3*time.Second, afpro.MCUCapabilities)
		}
		if err == nil || !errors.Is(err, errSilence) {
			return err
		}
	}
	return err
}

// tunnelled waits for a tunnelled attribute.
func (a *asr) tunnelled(limit time.Duration, of afpro.Attribute) ([]byte, error) {
	for deadline := time.Now().Add(limit); ; {
		m, err := a.await(time.Until(deadline), afpro.ChannelToASR)
		if err != nil {
			return nil, err
		}
		got, value, err := afpro.ParseTunnel(m.Value)
		if err == nil && got == of {
			return value, nil
		}
		if err == nil && of == afpro.OTATransfer && value[0] == byte(afpro.InfoIdle) {
			return nil, errRefused
		}
	}
}

func (a *asr) info(limit time.Duration) (afpro.Info, error) {
	value, err := a.tunnelled(limit, afpro.OTAInfo)
	if err != nil {
		return afpro.Info{}, err
	}
	return afpro.ParseInfo(value)
}

// begin offers an image and wants the same bytes back.
func (a *asr) begin(i afpro.Info) error {
	i.State = afpro.InfoBegin
	got, err := a.ask(i, otaPatience)
	switch {
	case err != nil:
		return err
	case got.State == afpro.InfoIdle:
		return errRefused
	case got != i:
		return fmt.Errorf("%w: %v", errConfused, got)
	}
	return nil
}

// transfer sends chunks until the MCU stops it. It returns how many were sent.
func (a *asr) transfer(image []byte, from uint32) (int, error) {
	n := 0
	for lost := 0; lost < 3 && n < 3*len(image)/a.chunk+50; n++ {
		if int64(from) >= int64(len(image)) {
			return n, errOffset
		}
		end := min(int(from)+a.chunk, len(image))
		if err := a.send(afpro.AppendTransfer(nil, from, image[from:end])); err != nil {
			return n, err
		}
		value, err := a.tunnelled(otaPatience, afpro.OTATransfer)
		if errors.Is(err, errSilence) {
			lost++
			continue
		}
		if err != nil {
			return n, err
		}
		next, err := afpro.ParseNext(value)
		switch {
		case err != nil:
			lost++
		case next == afpro.StopOffset && end < len(image):
			return n + 1, errStopped // early, or it has the rest
		case next == afpro.StopOffset:
			return n + 1, nil
		default:
			from = next
		}
	}
	return n, errSilence
}

// finish compares sums and has the image applied.
func (a *asr) finish(id uint64, image []byte) error {
	got, err := a.info(otaPatience)
	if err != nil {
		return err
	}
	if got.State != afpro.InfoVerify {
		return errConfused
	}
	if got.SHA256 != sha256.Sum256(image) {
		return errors.Join(errSum, a.send(afpro.AppendInfo(nil, afpro.ChannelToMCU, afpro.Info{State: afpro.InfoFail})))
	}
	return a.apply(id)
}

func (a *asr) apply(id uint64) error {
	got, err := a.ask(afpro.Info{State: afpro.InfoApply, Version: id}, otaPatience)
	if err != nil || got.State != afpro.InfoIdle {
		return errors.Join(err, errConfused)
	}
	return nil
}

// ask sends an info and returns the MCU's answer.
func (a *asr) ask(i afpro.Info, limit time.Duration) (afpro.Info, error) {
	var got afpro.Info
	err := errSilence
	for try := 0; try < 3 && errors.Is(err, errSilence); try++ {
		if err = a.send(afpro.AppendInfo(nil, afpro.ChannelToMCU, i)); err == nil {
			got, err = a.info(limit)
		}
	}
	return got, err
}

// version starts up and learns the version that the MCU reports, or asks for it.
func (a *asr) version(firmwareType uint16) (uint64, error) {
	of := afpro.VersionAttribute(firmwareType)
	delete(a.told, of)
	if err := a.boot(); err != nil {
		return 0, err
	}
	_, err := a.await(5*time.Second, of)
	for try := 0; errors.Is(err, errSilence) && a.told[of] == nil && try < 3; try++ {
		a.request++
		if err := a.message(afpro.Message{Type: afpro.Get, Request: a.request, Attribute: of}); err != nil {
			return 0, err
		}
		_, err = a.await(5*time.Second, of)
	}
	if a.told[of] == nil {
		return 0, err
	}
	return afpro.ParseUint64(a.told[of])
}

// load carries an image up to APPLY.
func (a *asr) load(id uint64, image []byte) error {
	i := afpro.Info{Type: DefaultFirmwareType, Size: uint32(len(image)), Version: id}
	if err := a.begin(i); err != nil {
		return err
	}
	_, err := a.transfer(image, 0)
	if err != nil && !errors.Is(err, errStopped) {
		return err
	}
	if end := a.finish(id, image); end != nil {
		return errors.Join(err, end)
	}
	return nil // it had the rest, if it stopped early
}

// update carries an image through the whole flow, from the start-up on, and
// returns the version id that the MCU reports in the end.
func (a *asr) update(id uint64, image []byte) (uint64, error) {
	if err := a.boot(); err != nil {
		return 0, err
	}
	if err := a.load(id, image); err != nil {
		return 0, err
	}
	return a.version(DefaultFirmwareType)
}

// runs says whether the MCU runs an image, byte by byte.
func (r *aferoRig) runs(id uint64, image []byte) bool {
	return r.mcu.RunningVersionID() == id && bytes.Equal(r.mcu.RunningImage(), image)
}
