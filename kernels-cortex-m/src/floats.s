// Products of floats: see floats.rs. Each product is rounded before it is added.

// Words of a frame.
.equ P_ROWS, 0
.equ P_ROW_COUNT, 4
.equ P_TAPS, 8
.equ P_TAP_STEP, 12
.equ P_LENGTH, 16
.equ P_WEIGHTS, 20
.equ P_SUMS, 24
.equ P_PIXEL_STEP, 28           // beside the next: read together
.equ P_SUMS_STEP, 32

// Eight channels with an input.
.macro KINGLET_FLOATS x, s0, s1, s2, s3, s4, s5, s6, s7
    vmla.f32 \s0, s16, \x
    vmla.f32 \s1, s17, \x
    vmla.f32 \s2, s18, \x
    vmla.f32 \s3, s19, \x
    vmla.f32 \s4, s20, \x
    vmla.f32 \s5, s21, \x
    vmla.f32 \s6, s22, \x
    vmla.f32 \s7, s23, \x
.endm

// kinglet_floats_PIXELS(r0: frame): eight channels of one or two pixels
.macro KINGLET_DENSE_FLOATS pixels
.section .text.kinglet_floats_\pixels, "ax", %progbits
.balign 4
.global kinglet_floats_\pixels
.type kinglet_floats_\pixels, %function
.thumb_func
kinglet_floats_\pixels:
    push {r4-r11, lr}
    vpush {s16-s25}
    mov lr, r0
    ldm r0, {r4, r5, r7-r9}
    ldrd r6, r3, [lr, #P_WEIGHTS]
    vldmia r3, {s0-s7}
.if \pixels == 2
    ldrd r10, lr, [lr, #P_PIXEL_STEP]
    add lr, lr, r3
    vldmia lr, {s8-s15}
.endif
1:  // A kernel row.
    ldr r11, [r4], #4
    mov r12, r7
2:  // A tap.
    mov r0, r11
.if \pixels == 2
    add r1, r11, r10
.endif
    mov r2, r9
3:
    vldmia r6!, {s16-s23}
    vldmia r0!, {s24}
.if \pixels == 2
    vldmia r1!, {s25}
.endif
    KINGLET_FLOATS s24, s0, s1, s2, s3, s4, s5, s6, s7
.if \pixels == 2
    KINGLET_FLOATS s25, s8, s9, s10, s11, s12, s13, s14, s15
.endif
    subs r2, r2, #1
    bne 3b
    add r11, r11, r8
    subs r12, r12, #1
    bne 2b
    subs r5, r5, #1
    bne 1b
    vstmia r3, {s0-s7}
.if \pixels == 2
    vstmia lr, {s8-s15}
.endif
    vpop {s16-s25}
    pop {r4-r11, pc}
.size kinglet_floats_\pixels, . - kinglet_floats_\pixels
.endm

KINGLET_DENSE_FLOATS 1
KINGLET_DENSE_FLOATS 2

// kinglet_floats_each(r0: frame, r1: bytes of inputs to the first channel, r2: bytes of weights from kernel row to kernel row, r3: from tap to tap): eight
// channels of a pixel, each by itself
.section .text.kinglet_floats_each, "ax", %progbits
.balign 4
.global kinglet_floats_each
.type kinglet_floats_each, %function
.thumb_func
kinglet_floats_each:
    push {r4-r11, lr}
    vpush {s16-s23}
    ldm r0, {r4, r5, r7, r8}
    ldrd r6, lr, [r0, #P_WEIGHTS]
    vldmia lr, {s0-s7}
1:
    ldr r11, [r4], #4
    add r11, r11, r1
    mov r10, r6
    mov r12, r7
2:
    vldmia r11, {s8-s15}
    vldmia r10, {s16-s23}
    vmla.f32 s0, s8, s16
    vmla.f32 s1, s9, s17
    vmla.f32 s2, s10, s18
    vmla.f32 s3, s11, s19
    vmla.f32 s4, s12, s20
    vmla.f32 s5, s13, s21
    vmla.f32 s6, s14, s22
    vmla.f32 s7, s15, s23
    add r11, r11, r8
    add r10, r10, r3
    subs r12, r12, #1
    bne 2b
    add r6, r6, r2
    subs r5, r5, #1
    bne 1b
    vstmia lr, {s0-s7}
    vpop {s16-s23}
    pop {r4-r11, pc}
.size kinglet_floats_each, . - kinglet_floats_each
