// The sum of two quantised tensors: see add.rs.

// kinglet_add(r0: constants, r1: one, r2: the other, r3: results, on the stack: elements)
.section .text.kinglet_add, "ax", %progbits
.balign 4
.global kinglet_add
.type kinglet_add, %function
.thumb_func
kinglet_add:
    push {r4-r11, lr}
    ldr r12, [sp, #36]
    vldr s4, [r0, #4]
    vldr s5, [r0, #12]
    vldr s6, [r0, #20]
    vneg.f32 s6, s6
    ldr r8, [r0]
    ldr r9, [r0, #8]
    ldrd r10, r11, [r0, #24]
    // All ones for a ReLU, whose least is no negative number.
    mvn r11, r11, asr #31
1:
    ldrsb r4, [r1], #1
    ldrsb r5, [r2], #1
    add r4, r4, r8
    add r5, r5, r9
    vmov s0, s1, r4, r5
    vcvt.f32.s32 s0, s0
    vcvt.f32.s32 s1, s1
    vmul.f32 s0, s0, s4
    vmul.f32 s1, s1, s5
    vadd.f32 s0, s0, s1
    vdiv.f32 s0, s0, s6
    vcvtr.s32.f32 s0, s0
    vmov r4, s0
    and r5, r11, r4, asr #31
    bic r4, r4, r5
    qadd r4, r4, r10
    ssat r4, #8, r4
    strb r4, [r3], #1
    subs r12, r12, #1
    bne 1b
    pop {r4-r11, pc}
.size kinglet_add, . - kinglet_add
