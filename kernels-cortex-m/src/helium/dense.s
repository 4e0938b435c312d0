// Dense products of bytes, 16 of each of four channels at a time: see dense.rs.
//
// `vmladava` adds 16 products to an even register, of which there are eight: sums of four channels under two pixels, or of eight channels under
// one. Pointers and counters have the odd ones.

// Words of a frame.
.equ H_BIAS, 0                  // beside the next: read together
.equ H_SCALES, 4
.equ H_FLOATS, 8                // beside the next
.equ H_SCALES_STEP, 12
.equ H_WEIGHTS, 16              // beside the next
.equ H_WEIGHTS_STEP, 20
.equ H_BLOCKS, 24
.equ H_CHANNELS, 28             // of a block
.equ H_LINES, 32
.equ H_LINES_END, 36
.equ H_ROUNDS, 40               // turns of the loop over inputs in the first line, and where it is entered
.equ H_ENTRY, 44
.equ H_ROUNDS_MORE, 48          // in others
.equ H_ENTRY_MORE, 52
.equ H_OTHER, 56                // bytes from a panel's weights to those of the next
.equ H_X_STEP, 60               // bytes between the inputs of two pixels
.equ H_Y, 64
.equ H_PAIRS, 68
.equ H_ZERO, 72
.equ H_RAW, 76                  // where sums are stored as they are, or 0
.equ H_X_TWO, 80                // bytes to the next two pixels, inputs and results; beside the next
.equ H_Y_TWO, 84
.equ H_X_LAST, 88               // and to the last two, one of which may be done; beside the next
.equ H_Y_LAST, 92
.equ H_EVEN, 96                 // four words: bytes to the even channels
.equ H_PLACES, 112              // eight halfwords: bytes to the results
.equ H_X, 128
// Words that only the functions use.
.equ H_AT_X, 132
.equ H_AT_Y, 136                // beside the next
.equ H_LEFT, 140
.equ H_FINISH, 144

// 16 inputs: the first time sums begin from nothing.
.macro KINGLET_16 multiply, vector
    vldrb.u8 q0, [r1], #16
.if \vector
    vldrb.u8 q2, [r3], #16
    vldrb.u8 q3, [r5], #16
    \multiply r0, q0, q2
    vldrb.u8 q2, [r3], #16
    \multiply r8, q0, q3
    vldrb.u8 q3, [r5], #16
    \multiply r2, q0, q2
    vldrb.u8 q2, [r3], #16
    \multiply r10, q0, q3
    vldrb.u8 q3, [r5], #16
    \multiply r4, q0, q2
    vldrb.u8 q2, [r3], #16
    \multiply r12, q0, q3
    vldrb.u8 q3, [r5], #16
    \multiply r6, q0, q2
    \multiply lr, q0, q3
.else
    vldrb.u8 q2, [r5], #16
    vldrb.u8 q1, [r3], #16
    \multiply r0, q0, q2
    vldrb.u8 q3, [r5], #16
    \multiply r8, q1, q2
    vldrb.u8 q2, [r5], #16
    \multiply r2, q0, q3
    \multiply r10, q1, q3
    vldrb.u8 q3, [r5], #16
    \multiply r4, q0, q2
    \multiply r12, q1, q2
    \multiply r6, q0, q3
    \multiply lr, q1, q3
.endif
.endm

// The inputs of the next line.
.macro KINGLET_LINE vector
    ldr r1, [r7], #4
.if \vector
    ldr r11, [r9, #H_AT_X]
    add r1, r1, r11
.else
    ldr r3, [r9, #H_AT_X]
    ldr r11, [r9, #H_X_STEP]
    add r1, r1, r3
    add r3, r1, r11
.endif
.endm

// kinglet_helium_NAME(r0: frame): all blocks of channels of a line of pixels.
.macro KINGLET_HELIUM name, vector
.section .text.kinglet_helium_\name, "ax", %progbits
.balign 4
.global kinglet_helium_\name
.type kinglet_helium_\name, %function
.thumb_func
kinglet_helium_\name:
    push {r4-r11, lr}
    vpush {d8-d15}
    mov r9, r0
1:  // A block of channels: its biases and scales, even ones and odd ones by themselves.
    ldrd r1, r3, [r9, #H_BIAS]
    vldrw.u32 q0, [r9, #H_EVEN]
    movs r5, #4
    vadd.i32 q1, q0, r5
    vldrw.u32 q4, [r1, q0]
    vldrw.u32 q5, [r1, q1]
    vldrw.u32 q6, [r3, q0]
    vldrw.u32 q7, [r3, q1]
    ldr r11, [r9, #H_RAW]
    cmp r11, #0
    bne 3f
    // Integers, if none is 0; else the floats.
    vmin.u32 q2, q6, q7
    mov r0, #-1
    vminv.u32 r0, q2
    adr.w r11, kinglet_helium_\name\()_integer
    cbnz r0, 2f
    ldr r3, [r9, #H_FLOATS]
    vldrw.u32 q6, [r3, q0]
    vldrw.u32 q7, [r3, q1]
    adr.w r11, kinglet_helium_\name\()_float
2:
    orr r11, r11, #1
3:
    str r11, [r9, #H_FINISH]
    ldr r0, [r9, #H_X]
    str r0, [r9, #H_AT_X]
    ldr r0, [r9, #H_Y]
    ldr r2, [r9, #H_PAIRS]
    strd r0, r2, [r9, #H_AT_Y]
4:  // Two pixels.
    ldr r7, [r9, #H_LINES]
    ldr r5, [r9, #H_WEIGHTS]
.if \vector
    mov r3, r5
    ldr r11, [r9, #H_OTHER]
    add r5, r5, r11
.endif
    KINGLET_LINE \vector
    ldr r11, [r9, #H_ROUNDS]
    KINGLET_16 vmladav.s8, \vector
    ldr pc, [r9, #H_ENTRY]
.balign 4
.global kinglet_helium_\name\()_steps
kinglet_helium_\name\()_steps:
5:
.rept 8
    KINGLET_16 vmladava.s8, \vector
.endr
.global kinglet_helium_\name\()_end
kinglet_helium_\name\()_end:
    subs r11, r11, #1
    bne.w 5b
    ldr r11, [r9, #H_LINES_END]
    cmp r7, r11
    beq 6f
    KINGLET_LINE \vector
    ldr r11, [r9, #H_ROUNDS_MORE]
    ldr pc, [r9, #H_ENTRY_MORE]
6:
    ldr pc, [r9, #H_FINISH]
.balign 4
kinglet_helium_\name\()_integer:
    KINGLET_BIASED
    vmulh.s32 q0, q0, q6
    vmulh.s32 q1, q1, q7
    vqrshrnb.s32 q0, q0, #3
    vqrshrnt.s32 q0, q1, #3
7:
    ldr r0, [r9, #H_ZERO]
    ldr r1, [r9, #H_AT_Y]
    vqadd.s16 q0, q0, r0
    vldrh.u16 q1, [r9, #H_PLACES]
    vqmovnb.s16 q0, q0
    vstrb.16 q0, [r1, q1]
8:  // The next two.
    ldrd r4, r6, [r9, #H_X_TWO]
    ldr r2, [r9, #H_LEFT]
    ldr r3, [r9, #H_AT_X]
    subs r2, r2, #1
    cmp r2, #1
    it eq
    ldrdeq r4, r6, [r9, #H_X_LAST]
    add r3, r3, r4
    add r1, r1, r6
    str r3, [r9, #H_AT_X]
    strd r1, r2, [r9, #H_AT_Y]
    bhs.w 4b
    // The next block.
    ldr r7, [r9, #H_CHANNELS]
    ldrd r0, r2, [r9, #H_BIAS]
    ldrd r4, r6, [r9, #H_FLOATS]
    add r0, r0, r7, lsl #2
    mla r2, r6, r7, r2
    strd r0, r2, [r9, #H_BIAS]
    add r4, r4, r7, lsl #2
    str r4, [r9, #H_FLOATS]
    ldrd r0, r2, [r9, #H_WEIGHTS]
    ldr r4, [r9, #H_Y]
    add r0, r0, r2
    add r4, r4, r7
    str r0, [r9, #H_WEIGHTS]
    str r4, [r9, #H_Y]
    ldr r0, [r9, #H_BLOCKS]
    subs r0, r0, #1
    str r0, [r9, #H_BLOCKS]
    bne.w 1b
    vpop {d8-d15}
    pop {r4-r11, pc}
.balign 4
kinglet_helium_\name\()_float:
    KINGLET_BIASED
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, q6
    vmul.f32 q1, q1, q7
    vcvtn.s32.f32 q0, q0
    vcvtn.s32.f32 q1, q1
    vqmovnb.s32 q0, q0
    vqmovnt.s32 q0, q1
    b.w 7b
.balign 4
.global kinglet_helium_\name\()_raw
kinglet_helium_\name\()_raw:
    // Sums as they are, of the first pixel (or panel) and the second.
    ldr r1, [r9, #H_AT_Y]
    stmia r1!, {r0, r2, r4, r6}
    stmia r1!, {r8, r10, r12, lr}
    b.w 8b
.size kinglet_helium_\name, . - kinglet_helium_\name
.endm

// The eight sums with their biases: even channels, then odd ones.
.macro KINGLET_BIASED
    vmov q0[2], q0[0], r0, r8
    vmov q0[3], q0[1], r4, r12
    vmov q1[2], q1[0], r2, r10
    vmov q1[3], q1[1], r6, lr
    vadd.i32 q0, q0, q4
    vadd.i32 q1, q1, q5
.endm

KINGLET_HELIUM pixels, 0
KINGLET_HELIUM vector, 1
