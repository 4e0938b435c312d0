// Products of bytes whose weights lie by pairs of channels, four inputs of each: see dense.rs.
//
// A tile is N pixels of all pairs of channels. Its inputs are widened to halfwords first, `[k / 4][pixel]` of two words each: inputs 0 and 2, inputs
// 1 and 3, in which order `sxtb16` also takes weights apart. If weights lie by twos, the words are 256 x1 + 127 - x0 of inputs 0, 1 and of 2, 3, and inputs
// 0 and 2: these are multiplied with the weights as they lie, those with weights 1 and 3, and the sums are 256 times as large.

// Words of a frame. The function works on a copy, below which lie the sums of a pair where these are not rounded here.
.equ K_PANEL, 0                 // beside the next: read together
.equ K_BIAS, 4
.equ K_Y, 8                     // as above
.equ K_INTEGERS, 12
.equ K_STEP, 16                 // as above
.equ K_ZERO, 20
.equ K_Y_END, 24
.equ K_PANEL_END, 28
.equ K_ENTRY, 32
.equ K_OTHER, 36
.equ K_CONTEXT, 40
.equ K_WEIGHTS, 44
.equ K_SUMS, 48

.macro KINGLET_PIXEL a, b
    ldrd r6, r7, [r0], #8
    smlad \a, r6, r4, \a
    smlad \b, r6, r5, \b
    smlad \a, r7, r2, \a
    smlad \b, r7, r3, \b
.endm

.macro KINGLET_ROUND q, m, twos
    smmla \q, \q, \m, r6
.if \twos
    ssat \q, #8, \q, asr #11
.else
    ssat \q, #8, \q, asr #3
.endif
.endm

.macro KINGLET_FLOAT q, m, twos
.if \twos
    vcvt.f32.s32 \q, \q, #8
.else
    vcvt.f32.s32 \q, \q
.endif
    vmul.f32 \q, \q, \m
    vcvtr.s32.f32 \q, \q
.endm

.macro KINGLET_BYTE q
    qadd \q, \q, r6
    ssat \q, #8, \q
.endm

// NAME(r0: frame, r1: weights of the first pair)
.macro KINGLET_DENSE name, n, twos
.section .text.\name, "ax", %progbits
.balign 4
.global \name
.type \name, %function
.thumb_func
\name\():
    push {r4-r11, lr}
    sub sp, sp, #32
    ldmia r0, {r2-r12}
    push {r2-r12}
1:  // A pair of channels: all sums begin from the bias.
    ldrd r0, r2, [sp, #K_PANEL]
    ldrd r8, r9, [r2], #8
    str r2, [sp, #K_BIAS]
.if \n > 1
    mov r10, r8
    mov r11, r9
.endif
.if \n > 2
    mov r12, r8
    mov lr, r9
.endif
    ldr pc, [sp, #K_ENTRY]
.global \name\()_steps
\name\()_steps:
2:
.rept 8
    ldrd r2, r3, [r1], #8
    sxtb16 r4, r2
    sxtb16 r5, r3
.if \twos == 0
    sxtb16 r2, r2, ror #8
    sxtb16 r3, r3, ror #8
.endif
    KINGLET_PIXEL r8, r9
.if \n > 1
    KINGLET_PIXEL r10, r11
.endif
.if \n > 2
    KINGLET_PIXEL r12, lr
.endif
.endr
.global \name\()_end
\name\()_end:
    ldr r6, [sp, #K_PANEL_END]
    cmp r0, r6
    bne 2b
    ldrd r4, r7, [sp, #K_Y]
    ldrd r2, r3, [r7], #8
    cbz r2, 4f
    cbz r3, 4f
    ldrd r5, r6, [sp, #K_STEP]
    KINGLET_ROUND r8, r2, \twos
    KINGLET_ROUND r9, r3, \twos
.if \n > 1
    KINGLET_ROUND r10, r2, \twos
    KINGLET_ROUND r11, r3, \twos
.endif
.if \n > 2
    KINGLET_ROUND r12, r2, \twos
    KINGLET_ROUND lr, r3, \twos
.endif
6:
    bfi r8, r9, #8, #8
.if \n > 1
    bfi r10, r11, #8, #8
    strh r10, [r4, r5]
.endif
.if \n > 2
    bfi r12, lr, #8, #8
    strh r12, [r4, r5, lsl #1]
.endif
    strh r8, [r4], #2
3:
    strd r4, r7, [sp, #K_Y]
    ldr r6, [sp, #K_Y_END]
    cmp r4, r6
    bne 1b
    add sp, sp, #76
    pop {r4-r11, pc}
4:  // What has no integers goes to the caller's function, if there is one.
.if KINGLET_FPU
    ldr r6, [sp, #K_OTHER]
    cmp r6, #0
    bne 5f
    // Else the floats lie as far behind the integers as the context says.
    ldr r6, [sp, #K_CONTEXT]
    add r6, r6, r7
    vldr s6, [r6, #-8]
    vldr s7, [r6, #-4]
    vmov s0, s1, r8, r9
    KINGLET_FLOAT s0, s6, \twos
    KINGLET_FLOAT s1, s7, \twos
.if \n > 1
    vmov s2, s3, r10, r11
    KINGLET_FLOAT s2, s6, \twos
    KINGLET_FLOAT s3, s7, \twos
.endif
.if \n > 2
    vmov s4, s5, r12, lr
    KINGLET_FLOAT s4, s6, \twos
    KINGLET_FLOAT s5, s7, \twos
.endif
    ldrd r5, r6, [sp, #K_STEP]
.if \twos
    asrs r6, r6, #11
.else
    asrs r6, r6, #3
.endif
    vmov r8, r9, s0, s1
    KINGLET_BYTE r8
    KINGLET_BYTE r9
.if \n > 1
    vmov r10, r11, s2, s3
    KINGLET_BYTE r10
    KINGLET_BYTE r11
.endif
.if \n > 2
    vmov r12, lr, s4, s5
    KINGLET_BYTE r12
    KINGLET_BYTE lr
.endif
    b 6b
5:
.endif
    str r1, [sp, #K_WEIGHTS]
    str r7, [sp, #K_INTEGERS]
    add r0, sp, #K_SUMS
.if \twos
    asr r8, r8, #8
    asr r9, r9, #8
    asr r10, r10, #8
    asr r11, r11, #8
    asr r12, r12, #8
    asr lr, lr, #8
.endif
.if \n == 1
    stmia r0, {r8, r9}
.endif
.if \n == 2
    stmia r0, {r8-r11}
.endif
.if \n == 3
    stmia r0, {r8-r12, lr}
.endif
    mov r0, sp
    ldr r2, [sp, #K_OTHER]
    blx r2
    ldr r1, [sp, #K_WEIGHTS]
    ldrd r4, r7, [sp, #K_Y]
    adds r4, r4, #2
    b 3b
.size \name, . - \name
.endm

// Four inputs in `a` become two words.
.macro KINGLET_APART a, b, twos
.if \twos
    sxtb16 \b, \a
    eor \a, \a, #0x007f007f
.else
    sxtb16 \b, \a, ror #8
    sxtb16 \a, \a
.endif
.endm

// Four inputs of each pixel.
.macro KINGLET_WIDEN_FOURS n, twos
    ldr r4, [r0], #4
.if \n > 1
    ldr r6, [r12], #4
.endif
.if \n > 2
    ldr r8, [lr], #4
.endif
    KINGLET_APART r4, r5, \twos
.if \n > 1
    KINGLET_APART r6, r7, \twos
.endif
.if \n > 2
    KINGLET_APART r8, r9, \twos
.endif
.if \n == 1
    stmia r3!, {r4, r5}
.endif
.if \n == 2
    stmia r3!, {r4-r7}
.endif
.if \n == 3
    stmia r3!, {r4-r9}
.endif
.endm

// NAME(r0: first pixel, r1: bytes from pixel to pixel, r2: fours of inputs, r3: where to): gives where that ends
.macro KINGLET_WIDEN name, n, twos
.section .text.\name, "ax", %progbits
.balign 4
.global \name
.type \name, %function
.thumb_func
\name\():
    push {r4-r9, lr}
    add r12, r0, r1
    add lr, r12, r1
.if \n == 3
    // Two fours in a turn, of an odd number of them one in the first: nearly all pixels come by threes.
    adds r2, r2, #1
    lsrs r2, r2, #1
    bcc 2f
.endif
1:
    KINGLET_WIDEN_FOURS \n, \twos
.if \n == 3
2:
    KINGLET_WIDEN_FOURS \n, \twos
.endif
    subs r2, r2, #1
    bne 1b
    mov r0, r3
    pop {r4-r9, pc}
.size \name, . - \name
.endm

KINGLET_DENSE kinglet_dense_1, 1, 0
KINGLET_DENSE kinglet_dense_2, 2, 0
KINGLET_DENSE kinglet_dense_3, 3, 0
KINGLET_DENSE kinglet_twos_1, 1, 1
KINGLET_DENSE kinglet_twos_2, 2, 1
KINGLET_DENSE kinglet_twos_3, 3, 1
KINGLET_WIDEN kinglet_widen_1, 1, 0
KINGLET_WIDEN kinglet_widen_2, 2, 0
KINGLET_WIDEN kinglet_widen_3, 3, 0
KINGLET_WIDEN kinglet_widen_twos_1, 1, 1
KINGLET_WIDEN kinglet_widen_twos_2, 2, 1
KINGLET_WIDEN kinglet_widen_twos_3, 3, 1
