#include "textflag.h"

// The carries of doubling: bit 127 becomes 0x87, bit 63 becomes bit 64.
DATA carry<>+0(SB)/8, $0x87
DATA carry<>+8(SB)/8, $0x01
GLOBL carry<>(SB), RODATA|NOPTR, $16

// func cpuid7() uint32
TEXT ·cpuid7(SB), NOSPLIT, $0-4
	MOVL $7, AX
	XORL CX, CX
	CPUID
	MOVL CX, ret+0(FP)
	RET

// func subWord(w uint32) uint32
TEXT ·subWord(SB), NOSPLIT, $0-12
	MOVL            w+0(FP), AX
	MOVQ            AX, X0
	PSHUFD          $0, X0, X0
	AESKEYGENASSIST $0, X0, X1
	MOVQ            X1, AX
	MOVL            AX, ret+8(FP)
	RET

// func invMix(dst, src *byte)
TEXT ·invMix(SB), NOSPLIT, $0-16
	MOVQ   dst+0(FP), DI
	MOVQ   src+8(FP), SI
	MOVUPS (SI), X0
	AESIMC X0, X0
	MOVUPS X0, (DI)
	RET

// One instruction on each of eight registers, with X8 as the key.
#define ALL8(OP) \
	OP X8, X0; \
	OP X8, X1; \
	OP X8, X2; \
	OP X8, X3; \
	OP X8, X4; \
	OP X8, X5; \
	OP X8, X6; \
	OP X8, X7

// func ecb(k *byte, rounds int, t *byte, n int)
// AX key, BX rounds, SI blocks, CX how many; R12, DX the key and round now.
TEXT ·ecb(SB), NOSPLIT, $0-32
	MOVQ k+0(FP), AX
	MOVQ rounds+8(FP), BX
	MOVQ t+16(FP), SI
	MOVQ n+24(FP), CX

ecbWide:
	CMPQ   CX, $8
	JLT    ecbTail
	MOVUPS (SI), X0
	MOVUPS 16(SI), X1
	MOVUPS 32(SI), X2
	MOVUPS 48(SI), X3
	MOVUPS 64(SI), X4
	MOVUPS 80(SI), X5
	MOVUPS 96(SI), X6
	MOVUPS 112(SI), X7
	MOVUPS (AX), X8
	ALL8(PXOR)
	LEAQ   16(AX), R12
	LEAQ   -1(BX), DX

ecbRound:
	MOVUPS (R12), X8
	ALL8(AESENC)
	ADDQ   $16, R12
	DECQ   DX
	JNZ    ecbRound
	MOVUPS (R12), X8
	ALL8(AESENCLAST)
	MOVUPS X0, (SI)
	MOVUPS X1, 16(SI)
	MOVUPS X2, 32(SI)
	MOVUPS X3, 48(SI)
	MOVUPS X4, 64(SI)
	MOVUPS X5, 80(SI)
	MOVUPS X6, 96(SI)
	MOVUPS X7, 112(SI)
	ADDQ   $128, SI
	SUBQ   $8, CX
	JMP    ecbWide

ecbTail:
	TESTQ  CX, CX
	JZ     ecbDone
	MOVUPS (SI), X0
	MOVUPS (AX), X8
	PXOR   X8, X0
	LEAQ   16(AX), R12
	LEAQ   -1(BX), DX

ecbOne:
	MOVUPS     (R12), X8
	AESENC     X8, X0
	ADDQ       $16, R12
	DECQ       DX
	JNZ        ecbOne
	MOVUPS     (R12), X8
	AESENCLAST X8, X0
	MOVUPS     X0, (SI)
	ADDQ       $16, SI
	DECQ       CX
	JMP        ecbTail

ecbDone:
	RET

// X10 times x, with the carries of X12; X11 is scratch.
#define DOUBLE \
	PSHUFD $0x13, X10, X11; \
	PADDQ  X10, X10; \
	PSRAL  $31, X11; \
	PAND   X12, X11; \
	PXOR   X11, X10

// Block I of eight: load, whiten, keep the tweak.
#define LOAD(I, X) \
	MOVUPS I(SI), X; \
	PXOR   X10, X; \
	MOVUPS X10, I(SP); \
	DOUBLE

#define STORE(I, X) \
	MOVUPS I(SP), X8; \
	PXOR   X8, X; \
	MOVUPS X, I(DI)

// func xtsNI(k *byte, rounds, dec int, dst, src *byte, blocks int, t *byte, n int)
// AX key, BX rounds, R13 direction, DI, SI data, CX blocks left, R8 tweaks, R9 sectors left.
TEXT ·xtsNI(SB), NOSPLIT, $128-64
	MOVQ   k+0(FP), AX
	MOVQ   rounds+8(FP), BX
	MOVQ   dec+16(FP), R13
	MOVQ   dst+24(FP), DI
	MOVQ   src+32(FP), SI
	MOVQ   t+48(FP), R8
	MOVQ   n+56(FP), R9
	MOVUPS carry<>(SB), X12

niSector:
	MOVUPS (R8), X10
	MOVQ   blocks+40(FP), CX

niWide:
	CMPQ   CX, $8
	JLT    niTail
	LOAD(0, X0)
	LOAD(16, X1)
	LOAD(32, X2)
	LOAD(48, X3)
	LOAD(64, X4)
	LOAD(80, X5)
	LOAD(96, X6)
	LOAD(112, X7)
	MOVUPS (AX), X8
	ALL8(PXOR)
	LEAQ   16(AX), R12
	LEAQ   -1(BX), DX
	TESTQ  R13, R13
	JNZ    niDec

niEnc:
	MOVUPS (R12), X8
	ALL8(AESENC)
	ADDQ   $16, R12
	DECQ   DX
	JNZ    niEnc
	MOVUPS (R12), X8
	ALL8(AESENCLAST)
	JMP    niStore

niDec:
	MOVUPS (R12), X8
	ALL8(AESDEC)
	ADDQ   $16, R12
	DECQ   DX
	JNZ    niDec
	MOVUPS (R12), X8
	ALL8(AESDECLAST)

niStore:
	STORE(0, X0)
	STORE(16, X1)
	STORE(32, X2)
	STORE(48, X3)
	STORE(64, X4)
	STORE(80, X5)
	STORE(96, X6)
	STORE(112, X7)
	ADDQ $128, SI
	ADDQ $128, DI
	SUBQ $8, CX
	JMP  niWide

niTail:
	TESTQ  CX, CX
	JZ     niNext
	MOVUPS (SI), X0
	MOVUPS (AX), X8
	PXOR   X10, X0
	PXOR   X8, X0
	LEAQ   16(AX), R12
	LEAQ   -1(BX), DX
	TESTQ  R13, R13
	JNZ    niDecOne

niEncOne:
	MOVUPS     (R12), X8
	AESENC     X8, X0
	ADDQ       $16, R12
	DECQ       DX
	JNZ        niEncOne
	MOVUPS     (R12), X8
	AESENCLAST X8, X0
	JMP        niStoreOne

niDecOne:
	MOVUPS     (R12), X8
	AESDEC     X8, X0
	ADDQ       $16, R12
	DECQ       DX
	JNZ        niDecOne
	MOVUPS     (R12), X8
	AESDECLAST X8, X0

niStoreOne:
	PXOR   X10, X0
	MOVUPS X0, (DI)
	DOUBLE
	ADDQ   $16, SI
	ADDQ   $16, DI
	DECQ   CX
	JMP    niTail

niNext:
	ADDQ $16, R8
	DECQ R9
	JNZ  niSector

	// What lies on the stack are tweaks: not to be left there.
	PXOR   X0, X0
	MOVUPS X0, 0(SP)
	MOVUPS X0, 16(SP)
	MOVUPS X0, 32(SP)
	MOVUPS X0, 48(SP)
	MOVUPS X0, 64(SP)
	MOVUPS X0, 80(SP)
	MOVUPS X0, 96(SP)
	MOVUPS X0, 112(SP)
	RET
