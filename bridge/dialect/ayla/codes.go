package ayla

import (
	"davit/schemas"
	"davit/schemas/tlv"
)

// causeOf says what an error code of the MCU means for an execution: as the
// answer to an offer, and after the MCU had accepted it. It is the one place
// where AERR codes (docs/wire.md section 4) become causes.
func causeOf(code tlv.Code) (onOffer, later schemas.Cause) {
	switch code {
	case tlv.CodeTimeout:
		return schemas.CauseTimeout, schemas.CauseTimeout
	case tlv.CodeLength:
		return schemas.CauseSize, schemas.CauseSize
	case tlv.CodeOverflow:
		return schemas.CauseSize, schemas.CauseProtocol
	case tlv.CodeUnknownType, tlv.CodeUnknownVar, tlv.CodeInvalidTLV, tlv.CodeInvalidOp, tlv.CodeInvalidDP,
		tlv.CodeInvalidOffset, tlv.CodeInvalidReq, tlv.CodeInvalidName:
		return schemas.CauseRejected, schemas.CauseProtocol
	case tlv.CodeConnection:
		return schemas.CauseRejected, schemas.CauseSerial
	case tlv.CodeServiceBusy, tlv.CodeBusyRetry:
		return schemas.CauseRejected, schemas.CauseTimeout
	case tlv.CodeInternal:
		return schemas.CauseFlash, schemas.CauseFlash
	case tlv.CodeChecksum:
		return schemas.CauseChecksum, schemas.CauseChecksum
	case tlv.CodeAlready:
		return schemas.CauseAlready, schemas.CauseAlready
	case tlv.CodeBoot:
		return schemas.CauseRejected, schemas.CauseBoot
	}
	return schemas.CauseRejected, schemas.CauseRejected
}
