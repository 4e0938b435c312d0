// Depthwise products of bytes, eight channels of two pixels at a time: see depthwise.rs.

// Words of a frame.
.equ D_TAPS, 0                  // beside the next: read together
.equ D_WEIGHTS, 4
.equ D_TWOS, 8
.equ D_ONE, 12
.equ D_AT_X, 16
.equ D_X_STEP, 20
.equ D_Y, 24
.equ D_Y_STEP, 28
.equ D_PAIRS, 32
.equ D_ZERO, 36
.equ D_BIAS, 40                 // beside the next
.equ D_SCALES, 44
.equ D_FLOATS, 48
.equ D_X_TWO, 52                // bytes from the first of two pixels to that of the next, inputs and (from the second) results; beside the next
.equ D_Y_TWO, 56
.equ D_X_LAST, 60               // and to the last two, one of which may be done; beside the next
.equ D_Y_LAST, 64
.equ D_BLOCKS, 68
.equ D_SCALES_STEP, 72

// Products of halfwords, in q6, to sums of words: even channels, then odd ones.
.macro KINGLET_ADD a, b
    vmovlb.s16 q7, q6
    vadd.i32 \a, \a, q7
    vmovlt.s16 q6, q6
    vadd.i32 \b, \b, q6
.endm

// Two taps of a pixel: their sum is a halfword still, for no weight is -128.
.macro KINGLET_TWO_TAPS a, b
    vldrb.s16 q6, [r4]
    vldrb.s16 q7, [r5]
    vmul.i16 q6, q6, q4
    vmul.i16 q7, q7, q5
    vadd.i16 q6, q6, q7
    KINGLET_ADD \a, \b
.endm

.macro KINGLET_TAP at, a, b
    vldrb.s16 q6, [\at]
    vmul.i16 q6, q6, q4
    KINGLET_ADD \a, \b
.endm

// One pixel's results.
.macro KINGLET_STORE a, b, integer
.if \integer
    vmulh.s32 \a, \a, q4
    vmulh.s32 \b, \b, q5
    vqrshrnb.s32 \a, \a, #3
    vqrshrnt.s32 \a, \b, #3
.else
    vcvt.f32.s32 \a, \a
    vcvt.f32.s32 \b, \b
    vmul.f32 \a, \a, q4
    vmul.f32 \b, \b, q5
    vcvtn.s32.f32 \a, \a
    vcvtn.s32.f32 \b, \b
    vqmovnb.s32 \a, \a
    vqmovnt.s32 \a, \b
.endif
    vqadd.s16 \a, \a, r4
    vqmovnb.s16 \a, \a
    // (Vectors of widened bytes are stored by the lower registers alone.)
    mov r3, r8
    vstrb.16 \a, [r3]
.endm

// kinglet_helium_depthwise(r0: frame): all eights of channels of a line of pixels.
.section .text.kinglet_helium_depthwise, "ax", %progbits
.balign 4
.global kinglet_helium_depthwise
.type kinglet_helium_depthwise, %function
.thumb_func
kinglet_helium_depthwise:
    push {r4-r11, lr}
    vpush {d8-d15}
    mov r9, r0
0:  // Eight channels.
    ldrd r6, r7, [r9, #D_AT_X]
    ldr r8, [r9, #D_Y]
    ldr r10, [r9, #D_PAIRS]
    // Whether no integer is 0.
    ldr r11, [r9, #D_SCALES]
    vldrw.u32 q0, [r11]
    vldrw.u32 q1, [r11, #16]
    vmin.u32 q0, q0, q1
    mov r12, #-1
    vminv.u32 r12, q0
    cmp r12, #0
    it eq
    ldreq r11, [r9, #D_FLOATS]
1:  // Two pixels: sums begin from the bias, even channels and odd ones by themselves.
    ldr r3, [r9, #D_BIAS]
    vld20.32 {q0, q1}, [r3]
    vld21.32 {q0, q1}, [r3]
    ldrd r1, r2, [r9]
    ldrd lr, r3, [r9, #D_TWOS]
    vmov q2, q0
    vmov q3, q1
    cmp lr, #0
    beq 3f
2:
    ldrd r4, r5, [r1], #8
    vldrb.s16 q4, [r2], #8
    vldrb.s16 q5, [r2], #8
    add r4, r4, r6
    add r5, r5, r6
    KINGLET_TWO_TAPS q0, q1
    add r4, r4, r7
    add r5, r5, r7
    KINGLET_TWO_TAPS q2, q3
    le lr, 2b
3:
    cbz r3, 5f
4:
    ldr r4, [r1], #4
    vldrb.s16 q4, [r2], #8
    add r4, r4, r6
    add r5, r4, r7
    KINGLET_TAP r4, q0, q1
    KINGLET_TAP r5, q2, q3
    subs r3, r3, #1
    bne 4b
5:
    vld20.32 {q4, q5}, [r11]
    vld21.32 {q4, q5}, [r11]
    ldr r4, [r9, #D_ZERO]
    ldr r5, [r9, #D_Y_STEP]
    cmp r12, #0
    beq 6f
    KINGLET_STORE q0, q1, 1
    add r8, r8, r5
    KINGLET_STORE q2, q3, 1
    b 7f
6:
    KINGLET_STORE q0, q1, 0
    add r8, r8, r5
    KINGLET_STORE q2, q3, 0
7:
    ldrd r0, r1, [r9, #D_X_TWO]
    subs r10, r10, #1
    cmp r10, #1
    it eq
    ldrdeq r0, r1, [r9, #D_X_LAST]
    add r6, r6, r0
    add r8, r8, r1
    bhs 1b
    // The next eight.
    ldrd r3, r4, [r9, #D_BIAS]
    ldr r5, [r9, #D_SCALES_STEP]
    ldr r6, [r9, #D_FLOATS]
    add r3, r3, #32
    add r4, r4, r5
    add r6, r6, #32
    strd r3, r4, [r9, #D_BIAS]
    str r6, [r9, #D_FLOATS]
    ldr r3, [r9, #D_AT_X]
    ldr r4, [r9, #D_Y]
    add r3, r3, #8
    add r4, r4, #8
    str r2, [r9, #D_WEIGHTS]
    str r3, [r9, #D_AT_X]
    str r4, [r9, #D_Y]
    ldr r5, [r9, #D_BLOCKS]
    subs r5, r5, #1
    str r5, [r9, #D_BLOCKS]
    bne 0b
    vpop {d8-d15}
    pop {r4-r11, pc}
.size kinglet_helium_depthwise, . - kinglet_helium_depthwise
