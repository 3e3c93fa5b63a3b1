#include "textflag.h"

// xtsNI of xts_amd64.s in wider registers. A name with <> is local to a file, so
// carry stands here again.

// x^128 = x^7 + x^2 + x + 1.
DATA poly<>+0(SB)/8, $0x87
DATA poly<>+8(SB)/8, $0x87
GLOBL poly<>(SB), RODATA|NOPTR, $16

DATA carry<>+0(SB)/8, $0x87
DATA carry<>+8(SB)/8, $0x01
GLOBL carry<>(SB), RODATA|NOPTR, $16

// By how much each qword of four tweaks, and of the next four, is shifted left,
// and how much of it goes over to its neighbour.
DATA left<>+0(SB)/8, $0
DATA left<>+8(SB)/8, $0
DATA left<>+16(SB)/8, $1
DATA left<>+24(SB)/8, $1
DATA left<>+32(SB)/8, $2
DATA left<>+40(SB)/8, $2
DATA left<>+48(SB)/8, $3
DATA left<>+56(SB)/8, $3
DATA left<>+64(SB)/8, $4
DATA left<>+72(SB)/8, $4
DATA left<>+80(SB)/8, $5
DATA left<>+88(SB)/8, $5
DATA left<>+96(SB)/8, $6
DATA left<>+104(SB)/8, $6
DATA left<>+112(SB)/8, $7
DATA left<>+120(SB)/8, $7
GLOBL left<>(SB), RODATA|NOPTR, $128

DATA right<>+0(SB)/8, $64
DATA right<>+8(SB)/8, $64
DATA right<>+16(SB)/8, $63
DATA right<>+24(SB)/8, $63
DATA right<>+32(SB)/8, $62
DATA right<>+40(SB)/8, $62
DATA right<>+48(SB)/8, $61
DATA right<>+56(SB)/8, $61
DATA right<>+64(SB)/8, $60
DATA right<>+72(SB)/8, $60
DATA right<>+80(SB)/8, $59
DATA right<>+88(SB)/8, $59
DATA right<>+96(SB)/8, $58
DATA right<>+104(SB)/8, $58
DATA right<>+112(SB)/8, $57
DATA right<>+120(SB)/8, $57
GLOBL right<>(SB), RODATA|NOPTR, $128

// One block, of the tail of a sector: X10 is the tweak, X8, X11, X12 scratch.
#define WHITEN1 \
	VMOVDQU (SI), X0; \
	VPXOR   X10, X0, X0; \
	VPXOR   (AX), X0, X0; \
	LEAQ    16(AX), R12; \
	LEAQ    -1(BX), DX

#define STORE1 \
	VPXOR   X10, X0, X0; \
	VMOVDQU X0, (DI); \
	VPSHUFD $0x13, X10, X11; \
	VPADDQ  X10, X10, X10; \
	VPSRAD  $31, X11, X11; \
	VPAND   carry<>(SB), X11, X11; \
	VPXOR   X11, X10, X10; \
	ADDQ    $16, SI; \
	ADDQ    $16, DI; \
	DECQ    CX

// Tweaks I/16 and I/16+1 of a sector to Y; both lanes of Y9 have its first one.
#define FIRST2(I, Y) \
	VPSLLVQ    left<>+I(SB), Y9, Y; \
	VPSRLVQ    right<>+I(SB), Y9, Y8; \
	VPCLMULQDQ $0x01, Y15, Y8, Y14; \
	VPSLLDQ    $8, Y8, Y8; \
	VPXOR      Y14, Y, Y; \
	VPXOR      Y8, Y, Y

// Two blocks at I: load, whiten with the tweaks in T, keep those, T times x^8.
#define LOAD2(I, Y, T) \
	VPXOR      I(SI), T, Y; \
	VMOVDQU    T, I(SP); \
	VPSRLDQ    $15, T, Y8; \
	VPCLMULQDQ $0x00, Y15, Y8, Y8; \
	VPSLLDQ    $1, T, T; \
	VPXOR      Y8, T, T

#define STORE2(I, Y) \
	VPXOR   I(SP), Y, Y; \
	VMOVDQU Y, I(DI)

#define ALL8Y(OP) \
	OP Y8, Y0, Y0; \
	OP Y8, Y1, Y1; \
	OP Y8, Y2, Y2; \
	OP Y8, Y3, Y3; \
	OP Y8, Y4, Y4; \
	OP Y8, Y5, Y5; \
	OP Y8, Y6, Y6; \
	OP Y8, Y7, Y7

// func xtsVAES256(k *byte, rounds, dec int, dst, src *byte, blocks int, t *byte, n int)
// General registers as in xtsNI. Y0-Y7 data, Y8 key or scratch, Y9 and Y14 scratch,
// Y10-Y13 the next eight tweaks, Y15 poly.
TEXT ·xtsVAES256(SB), NOSPLIT, $256-64
	MOVQ           k+0(FP), AX
	MOVQ           rounds+8(FP), BX
	MOVQ           dec+16(FP), R13
	MOVQ           dst+24(FP), DI
	MOVQ           src+32(FP), SI
	MOVQ           t+48(FP), R8
	MOVQ           n+56(FP), R9
	VBROADCASTI128 poly<>(SB), Y15

y2Sector:
	VBROADCASTI128 (R8), Y9
	FIRST2(0, Y10)
	FIRST2(32, Y11)
	FIRST2(64, Y12)
	FIRST2(96, Y13)
	MOVQ           blocks+40(FP), CX

y2Wide:
	CMPQ           CX, $16
	JLT            y2Tail
	LOAD2(0, Y0, Y10)
	LOAD2(32, Y1, Y11)
	LOAD2(64, Y2, Y12)
	LOAD2(96, Y3, Y13)
	LOAD2(128, Y4, Y10)
	LOAD2(160, Y5, Y11)
	LOAD2(192, Y6, Y12)
	LOAD2(224, Y7, Y13)
	VBROADCASTI128 (AX), Y8
	ALL8Y(VPXOR)
	LEAQ           16(AX), R12
	LEAQ           -1(BX), DX
	TESTQ          R13, R13
	JNZ            y2Dec

y2Enc:
	VBROADCASTI128 (R12), Y8
	ALL8Y(VAESENC)
	ADDQ           $16, R12
	DECQ           DX
	JNZ            y2Enc
	VBROADCASTI128 (R12), Y8
	ALL8Y(VAESENCLAST)
	JMP            y2Store

y2Dec:
	VBROADCASTI128 (R12), Y8
	ALL8Y(VAESDEC)
	ADDQ           $16, R12
	DECQ           DX
	JNZ            y2Dec
	VBROADCASTI128 (R12), Y8
	ALL8Y(VAESDECLAST)

y2Store:
	STORE2(0, Y0)
	STORE2(32, Y1)
	STORE2(64, Y2)
	STORE2(96, Y3)
	STORE2(128, Y4)
	STORE2(160, Y5)
	STORE2(192, Y6)
	STORE2(224, Y7)
	ADDQ $256, SI
	ADDQ $256, DI
	SUBQ $16, CX
	JMP  y2Wide

y2Tail:
	TESTQ CX, CX
	JZ    y2Next
	WHITEN1
	TESTQ R13, R13
	JNZ   y2DecOne

y2EncOne:
	VAESENC     (R12), X0, X0
	ADDQ        $16, R12
	DECQ        DX
	JNZ         y2EncOne
	VAESENCLAST (R12), X0, X0
	JMP         y2StoreOne

y2DecOne:
	VAESDEC     (R12), X0, X0
	ADDQ        $16, R12
	DECQ        DX
	JNZ         y2DecOne
	VAESDECLAST (R12), X0, X0

y2StoreOne:
	STORE1
	JMP y2Tail

y2Next:
	ADDQ    $16, R8
	DECQ    R9
	JNZ     y2Sector
	VPXOR   Y0, Y0, Y0
	VMOVDQU Y0, 0(SP)
	VMOVDQU Y0, 32(SP)
	VMOVDQU Y0, 64(SP)
	VMOVDQU Y0, 96(SP)
	VMOVDQU Y0, 128(SP)
	VMOVDQU Y0, 160(SP)
	VMOVDQU Y0, 192(SP)
	VMOVDQU Y0, 224(SP)
	VZEROALL
	RET

// Tweaks I/16 to I/16+3 of a sector to Z; all lanes of Z0 have its first one.
#define FIRST4(I, Z) \
	VPSLLVQ    left<>+I(SB), Z0, Z; \
	VPSRLVQ    right<>+I(SB), Z0, Z1; \
	VPCLMULQDQ $0x01, Z31, Z1, Z2; \
	VPSLLDQ    $8, Z1, Z1; \
	VPTERNLOGQ $0x96, Z1, Z2, Z

// TO = FROM times x^8; S is scratch.
#define TIMES8(FROM, TO, S) \
	VPSRLDQ    $15, FROM, S; \
	VPCLMULQDQ $0x00, Z31, S, S; \
	VPSLLDQ    $1, FROM, TO; \
	VPXORQ     S, TO, TO

// Four blocks at I: load, xor with the tweaks in T and the first key.
#define LOAD4(I, Z, T) \
	VMOVDQU64  I(SI), Z; \
	VPTERNLOGQ $0x96, Z16, T, Z

#define STORE4(I, Z, T) \
	VPXORQ    T, Z, Z; \
	VMOVDQU64 Z, I(DI)

#define ALL8Z(OP, K) \
	OP K, Z0, Z0; \
	OP K, Z1, Z1; \
	OP K, Z2, Z2; \
	OP K, Z3, Z3; \
	OP K, Z4, Z4; \
	OP K, Z5, Z5; \
	OP K, Z6, Z6; \
	OP K, Z7, Z7

// func xtsVAES512(k *byte, rounds, dec int, dst, src *byte, blocks int, t *byte, n int)
// General registers as in xtsNI. Z0-Z7 data or scratch, Z8-Z15 tweaks, Z16 the first
// key, Z17-Z20 those that only AES-256 has, Z21-Z30 the last ten, Z31 poly.
TEXT ·xtsVAES512(SB), NOSPLIT, $0-64
	MOVQ            k+0(FP), AX
	MOVQ            rounds+8(FP), BX
	MOVQ            dec+16(FP), R13
	MOVQ            dst+24(FP), DI
	MOVQ            src+32(FP), SI
	MOVQ            t+48(FP), R8
	MOVQ            n+56(FP), R9
	VBROADCASTI32X4 poly<>(SB), Z31
	MOVQ            AX, R12
	VBROADCASTI32X4 (R12), Z16
	CMPQ            BX, $14
	JNE             y5Keys
	VBROADCASTI32X4 16(R12), Z17
	VBROADCASTI32X4 32(R12), Z18
	VBROADCASTI32X4 48(R12), Z19
	VBROADCASTI32X4 64(R12), Z20
	ADDQ            $64, R12

y5Keys:
	VBROADCASTI32X4 16(R12), Z21
	VBROADCASTI32X4 32(R12), Z22
	VBROADCASTI32X4 48(R12), Z23
	VBROADCASTI32X4 64(R12), Z24
	VBROADCASTI32X4 80(R12), Z25
	VBROADCASTI32X4 96(R12), Z26
	VBROADCASTI32X4 112(R12), Z27
	VBROADCASTI32X4 128(R12), Z28
	VBROADCASTI32X4 144(R12), Z29
	VBROADCASTI32X4 160(R12), Z30

y5Sector:
	VBROADCASTI32X4 (R8), Z0
	FIRST4(0, Z8)
	FIRST4(64, Z9)
	MOVQ            blocks+40(FP), CX

y5Wide:
	CMPQ  CX, $32
	JLT   y5Tail
	TIMES8(Z8, Z10, Z0)
	TIMES8(Z9, Z11, Z1)
	TIMES8(Z10, Z12, Z2)
	TIMES8(Z11, Z13, Z3)
	TIMES8(Z12, Z14, Z4)
	TIMES8(Z13, Z15, Z5)
	LOAD4(0, Z0, Z8)
	LOAD4(64, Z1, Z9)
	LOAD4(128, Z2, Z10)
	LOAD4(192, Z3, Z11)
	LOAD4(256, Z4, Z12)
	LOAD4(320, Z5, Z13)
	LOAD4(384, Z6, Z14)
	LOAD4(448, Z7, Z15)
	TESTQ R13, R13
	JNZ   y5Dec
	CMPQ  BX, $14
	JNE   y5Enc
	ALL8Z(VAESENC, Z17)
	ALL8Z(VAESENC, Z18)
	ALL8Z(VAESENC, Z19)
	ALL8Z(VAESENC, Z20)

y5Enc:
	ALL8Z(VAESENC, Z21)
	ALL8Z(VAESENC, Z22)
	ALL8Z(VAESENC, Z23)
	ALL8Z(VAESENC, Z24)
	ALL8Z(VAESENC, Z25)
	ALL8Z(VAESENC, Z26)
	ALL8Z(VAESENC, Z27)
	ALL8Z(VAESENC, Z28)
	ALL8Z(VAESENC, Z29)
	ALL8Z(VAESENCLAST, Z30)
	JMP  y5Store

y5Dec:
	CMPQ BX, $14
	JNE  y5Dec10
	ALL8Z(VAESDEC, Z17)
	ALL8Z(VAESDEC, Z18)
	ALL8Z(VAESDEC, Z19)
	ALL8Z(VAESDEC, Z20)

y5Dec10:
	ALL8Z(VAESDEC, Z21)
	ALL8Z(VAESDEC, Z22)
	ALL8Z(VAESDEC, Z23)
	ALL8Z(VAESDEC, Z24)
	ALL8Z(VAESDEC, Z25)
	ALL8Z(VAESDEC, Z26)
	ALL8Z(VAESDEC, Z27)
	ALL8Z(VAESDEC, Z28)
	ALL8Z(VAESDEC, Z29)
	ALL8Z(VAESDECLAST, Z30)

y5Store:
	STORE4(0, Z0, Z8)
	STORE4(64, Z1, Z9)
	STORE4(128, Z2, Z10)
	STORE4(192, Z3, Z11)
	STORE4(256, Z4, Z12)
	STORE4(320, Z5, Z13)
	STORE4(384, Z6, Z14)
	STORE4(448, Z7, Z15)
	TIMES8(Z14, Z8, Z0)
	TIMES8(Z15, Z9, Z1)
	ADDQ $512, SI
	ADDQ $512, DI
	SUBQ $32, CX
	JMP  y5Wide

y5Tail:
	VMOVDQA X8, X10

y5One:
	TESTQ CX, CX
	JZ    y5Next
	WHITEN1
	TESTQ R13, R13
	JNZ   y5DecOne

y5EncOne:
	VAESENC     (R12), X0, X0
	ADDQ        $16, R12
	DECQ        DX
	JNZ         y5EncOne
	VAESENCLAST (R12), X0, X0
	JMP         y5StoreOne

y5DecOne:
	VAESDEC     (R12), X0, X0
	ADDQ        $16, R12
	DECQ        DX
	JNZ         y5DecOne
	VAESDECLAST (R12), X0, X0

y5StoreOne:
	STORE1
	JMP y5One

y5Next:
	ADDQ   $16, R8
	DECQ   R9
	JNZ    y5Sector
	VPXORQ Z16, Z16, Z16
	VPXORQ Z17, Z17, Z17
	VPXORQ Z18, Z18, Z18
	VPXORQ Z19, Z19, Z19
	VPXORQ Z20, Z20, Z20
	VPXORQ Z21, Z21, Z21
	VPXORQ Z22, Z22, Z22
	VPXORQ Z23, Z23, Z23
	VPXORQ Z24, Z24, Z24
	VPXORQ Z25, Z25, Z25
	VPXORQ Z26, Z26, Z26
	VPXORQ Z27, Z27, Z27
	VPXORQ Z28, Z28, Z28
	VPXORQ Z29, Z29, Z29
	VPXORQ Z30, Z30, Z30
	VZEROALL
	RET
