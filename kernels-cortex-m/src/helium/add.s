// The sum of two quantised tensors, four elements at a time: see add.rs.

// kinglet_add(r0: constants, r1: one, r2: the other, r3: results, on the stack: elements)
.section .text.kinglet_add, "ax", %progbits
.balign 4
.global kinglet_add
.type kinglet_add, %function
.thumb_func
kinglet_add:
    push {r4-r11, lr}
    ldr r12, [sp, #36]
    ldm r0, {r4-r11}
    vdup.32 q3, r11
    dlstp.32 lr, r12
1:
    vldrb.s32 q0, [r1], #4
    vldrb.s32 q1, [r2], #4
    vadd.i32 q0, q0, r4
    vadd.i32 q1, q1, r6
    vcvt.f32.s32 q0, q0
    vcvt.f32.s32 q1, q1
    vmul.f32 q0, q0, r5
    vmul.f32 q1, q1, r7
    vadd.f32 q0, q0, q1
    vmaxnm.f32 q0, q0, q3
    // Divided: times the reciprocal, and what that leaves over likewise.
    vmul.f32 q1, q0, r8
    vfma.f32 q0, q1, r9
    vfma.f32 q1, q0, r8
    vcvtn.s32.f32 q1, q1
    vqadd.s32 q1, q1, r10
    vqmovnb.s32 q1, q1
    vqmovnb.s16 q1, q1
    vstrb.32 q1, [r3], #4
    letp lr, 1b
    pop {r4-r11, pc}
.size kinglet_add, . - kinglet_add
