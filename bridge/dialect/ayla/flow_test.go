package ayla

import (
	"testing"

	"davit/schemas"
	"davit/schemas/tlv"
)

func TestUpdateFromOfferToVersion(t *testing.T) {
	virtual(t, 1000, func(b *bench) {
		b.session.Start(b.update)
		offer, err := tlv.ParseOffer(b.want(t, tlv.OpOTA))
		if err != nil || offer.Version != newVersion || offer.Size != 1000 {
			t.Fatalf("offer %+v, error %v", offer, err)
		}
		b.goAhead()
		b.load(t, b.image)
		b.stat(tlv.CodeOK)
		if v, err := tlv.ParseBoot(b.want(t, tlv.OpOTABoot)); err != nil || v != newVersion {
			t.Fatalf("boot of %q, error %v", v, err)
		}
		b.bootsTo(newVersion)
		b.wantEnd(schemas.StateSucceeded, "", 0)
	})
}
