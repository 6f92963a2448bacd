/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the soft engine share.
 *
 * All of src/engine/soft is compiled with -mgeneral-regs-only: while a vCPU's
 * thread is in here, the guest's vector and x87 registers are still in the host's.
 * Whoever calls anything outside this folder that might use those (libc, the bus,
 * Zydis) says vectors_save() first; they come back by themselves on the way to
 * the guest.
 *
 * Functions that return bool and may meet a guest's fault return false with the
 * exception recorded (raise()); the caller returns false at once and leaves nothing half
 * done. The run loop delivers it with rip at the instruction's first byte.
 *
 * Tour 6.40: The rules of the house
 */
#ifndef ENGINE_SOFT_INTERNAL_H
#define ENGINE_SOFT_INTERNAL_H

#include "engine/engine.h"
#include "engine/soft/bare.h"
#include "engine/soft/context.h"
#include "engine/soft/watch.h"
#include "engine/topology.h"

#include <asm/processor-flags.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* Segment registers, as the architecture numbers them. */
enum { ES, CS, SS, DS, FS, GS };

/* Intel SDM volume 3A, "Exception and Interrupt Vectors". */
enum vector {
	VECTOR_DE = 0,
	VECTOR_DB = 1,
	VECTOR_NMI = 2,
	VECTOR_BP = 3,
	VECTOR_OF = 4,
	VECTOR_BR = 5,
	VECTOR_UD = 6,
	VECTOR_NM = 7,
	VECTOR_DF = 8,
	VECTOR_TS = 10,
	VECTOR_NP = 11,
	VECTOR_SS = 12,
	VECTOR_GP = 13,
	VECTOR_PF = 14,
	VECTOR_MF = 16,
	VECTOR_AC = 17,
	VECTOR_XM = 19,
};

/* Intel SDM 3A, "Extended Feature Enable Register". */
#define EFER_SCE (1u << 0)  /* SYSCALL */
#define EFER_LME (1u << 8)  /* long mode, once there is paging */
#define EFER_LMA (1u << 10) /* there is: not for software to write */
#define EFER_NX	 (1u << 11)

/* Why a vCPU shall leave translated code: bits of ctx.poll. Set with vcpu_kick(). */
#define POLL_STOP      1u  /* the machine no longer runs */
#define POLL_INTERRUPT 2u  /* the local APIC may have something, or its timer rang */
#define POLL_CODE      4u  /* somebody else wrote to pages of which we have code */
#define POLL_VISIT     8u  /* somebody waits for vcpu->running */
#define POLL_DEBUG     16u /* a breakpoint was hit, or a debugger wants us to stop */

/* What a translation depends on beside its bytes: struct vcpu.mode, bits. */
#define MODE_VIEW      0x03u /* enum view */
#define MODE_CODE      0x0cu /* code size: 0: 64 bits, 4: 32, 8: 16 */
#define MODE_CODE_64   0x00u
#define MODE_CODE_32   0x04u
#define MODE_CODE_16   0x08u
#define MODE_NO_FPU    0x10u  /* CR0.EM or TS set: #NM, where nothing else forbids it */
#define MODE_NO_SSE    0x20u  /* CR4.OSFXSR clear or CR0.EM set: #UD */
#define MODE_NO_AVX    0x40u  /* CR4.OSXSAVE clear, or XCR0 without it: #UD */
#define MODE_STACK_16  0x80u  /* SS.B clear, outside 64-bit mode */
#define MODE_FLAT      0x100u /* outside 64-bit mode: CS, DS, ES and SS begin at 0, without limits */
#define MODE_ALIGN     0x800u  /* misaligned operands of 2, 4 and 8 bytes give #AC */
#define MODE_NO_MMX    0x1000u /* CR0.EM set: #UD */
#define MODE_NO_WAIT   0x2000u /* CR0.MP and TS set: #NM of WAIT */
#define MODE_NO_VEX    0x4000u /* real or virtual-8086 mode: #UD of VEX and EVEX */
#define MODE_NO_AVX512 0x8000u /* CR4.OSXSAVE clear, or XCR0 without it: #UD */
/* Outside 64-bit mode: FS and GS, each, have a base and nothing to check. */
#define MODE_FS_FLAT 0x10000u
#define MODE_GS_FLAT 0x20000u
/* For system instructions that are translated (system_inline.c). */
#define MODE_MIDDLE   0x40000u	/* CPL 1 or 2: a kernel's view without its privileges */
#define MODE_SMAP     0x80000u	/* CR4.SMAP: RFLAGS.AC changes the kernel's view */
#define MODE_TSD      0x100000u /* CR4.TSD: only kernels may ask for the time */
#define MODE_FSGSBASE 0x200000u /* CR4.FSGSBASE */
#define MODE_PKE      0x400000u /* CR4.PKE */

/*
 * An instruction that C executes: what is left of the decoder's answer. A register is 0 to 15;
 * NONE where there is none.
 */
#define OPERAND_NONE 0xff
#define OPERAND_RIP  16

struct vcpu;
struct insn;
typedef bool handler(struct vcpu *vcpu, const struct insn *insn);

struct insn {
	handler *handler;
	u16 mnemonic; /* ZYDIS_MNEMONIC_... */
	u8 length;    /* of its encoding, bytes */
	u8 opsize;    /* effective operand size: 1, 2, 4, 8 */
	u8 addrsize;  /* effective address size: 2, 4, 8 */
	u8 repeat;    /* 0, 0xf2 or 0xf3 */
	u8 opcode;    /* its last byte */
	u8 reg;	      /* ModRM.reg, REX.R included */
	u8 rm; /* the register in ModRM.rm (REX.B included), OPERAND_NONE: it is memory, or there is
		  no ModRM */
	u8 base, index, scale; /* of the memory operand; base may be OPERAND_RIP */
	u8 vvvv; /* the register in VEX.vvvv; then index may be a vector register (VSIB) */
	u8 vlen; /* vector length, bytes: 16, 32, 64; 0: not a vector instruction */
	u8 mask; /* the register in EVEX.aaa; 0: none. Then index may be a vector register, too */
	u8 segment; /* ES..GS that it goes through; for string instructions that of the source */
	bool has_memory; /* an explicit memory operand */
	s64 displacement;
	u64 immediate;	/* the first, sign-extended as the instruction has it; for far pointers the
			   offset */
	u16 immediate2; /* enter's second; a far pointer's selector */
	int32_t offset; /* of its first byte, from ctx.page */
};

/* How code in C accesses guest memory. */
enum access {
	ACCESS_READ = 0,
	ACCESS_WRITE = 1,
	ACCESS_FETCH = 2,
	ACCESS_SYSTEM = 4, /* | : as the supervisor, whatever the CPL: tables, interrupt frames */
};

/* --soft-stats; plain counters of one vCPU's thread. */
struct soft_stats {
	u64 insns_translated, blocks_translated, bytes_emitted, cache_flushes;
	u64 blocks_invalidated, code_writes, foreign_code_writes, rights_revoked;
	u64 tlb_misses[3]; /* read, write, fetch */
	u64 tlb_flushes, tlb_flushes_all, invlpgs, space_switches, spaces_taken;
	u64 jump_misses, links, polls;
	u64 page_crossings, mmio_reads, mmio_writes, port_reads, port_writes;
	u64 interrupts, exceptions[32], halts;
	u64 system_insns, string_insns;
	u64 executed[2048]; /* system and string instructions, by mnemonic: Zydis has fewer */
	u64 bare_runs, bare_calls, bare_faults, bare_kicks, bare_given_up;
	u64 bare_maps, bare_empties;
	u64 ticks_translating, ticks_helping, ticks_halted, ticks_bare,
		ticks_total; /* of the TSC */
};

/* cpuid.c: what the guest's CPUs say of themselves is put together once, when the engine opens */
#define CPUID_ENTRIES 48

/* Where XSAVE puts what, by component, in the standard format: as the host's does. */
struct xsave_layout {
	u64 components; /* that guests are offered: XCR0's bits */
	u16 offset[16], length[16];
	u16 aligned; /* a bit each: at 64 bytes in the compacted format */
};

struct cpuid_table {
	struct xsave_layout xsave;
	unsigned count;
	struct cpuid_entry {
		u32 leaf, subleaf;
		struct cpuid_result result;
	} entries[CPUID_ENTRIES];
};

/*
 * What is remembered of an address space that is not the current one: how its users look at memory.
 * See tlb.c.
 */
#define SPACES	    8
#define SIGNAL_ROOM 65536 /* for handlers, and registers that are saved around them */
#define PCID_NONE   (~0u)

struct address_space {
	u8 stack[SIGNAL_ROOM]; /* of translated code: see context.h */
	struct lookup lookup;
	u32 pcid;	       /* PCID_NONE: nothing in it is true */
	struct bare_case bare; /* is it worth being run as it is? */
	u64 used;	       /* space_clock, when it last became the current one */
};

/* Most pieces that the guest's memory can have. */
#define RAM_PIECES 4

/*
 * What SYSCALL and SYSRET of 64-bit mode load, ready to be copied, and which of them translated
 * code may do itself (syscall.c, syscall_inline.c).
 */
struct crossing {
	struct segment kernel[2], user[2]; /* CS and SS, as in struct vcpu */
	u64 kept;			   /* flags that are as they were behind SYSCALL */
	u64 odd;			   /* flags that SYSRET sets, and nobody wants to be set */
	u64 high;			   /* bits that no user's address has */
	bool slow;			   /* neither */
};

/* Where the last table on the way to 2 MiB of addresses was: walk.c. In long mode only. */
#define WALKS_KEPT 64

struct walk {
	u64 piece; /* address / MiB(2) */
	u64 epoch; /* of vcpu->walk_epoch */
	u64 *table;
	u64 rights; /* what the tables above allow */
};

struct lapic; /* lapic.c */
struct cache; /* cache.c */

struct vcpu {
	struct context ctx; /* must be first */
	struct soft *soft;
	unsigned index;
	u32 mode; /* MODE_*: kept by vcpu_update_mode() */
	u8 cpl;

	/* RFLAGS but for the arithmetic flags and IF, DF included: see vcpu_rflags(). */
	u64 sysflags;
	struct segment seg[6]; /* as loaded; the bases that count are in ctx.base */
	struct segment tr, ldt;
	struct descriptor_table gdt, idt;
	u64 cr0, cr2, cr3, cr4, xcr0, efer;
	u64 pdpte[4]; /* PAE's, as they were when they were loaded */
	u32 pkru;     /* written with mmu_set_pkru() */
	u64 dr[8];
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	struct crossing crossing;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pat, misc_enable, mtrr_def_type, tsc_adjust, apic_base;
	u64 mtrr_fixed[11], mtrr_variable[16];
	u64 kvm_system_time, kvm_wall_clock; /* MSRs of kvmclock */
	u64 spec_ctrl;

	struct {
		bool pending;
		u8 vector;
		bool has_error;
		u32 error;
		u64 cr2;
		bool non_canonical; /* #GP for the address: it is #SS through the stack */
	} exception;
	u64 insn_rip; /* first byte of the instruction that is being executed in C */
	/* The next instruction runs before any interrupt; behind MOV SS and POP SS before a #DB,
	 * too. */
	enum { SHADOW_NONE, SHADOW_STI, SHADOW_SS } shadow;
	bool stepping; /* RFLAGS.TF was set when the instruction began: #DB comes behind it */
	struct watch watch;
	struct held held;
	bool halted;  /* HLT: sleep until an interrupt */
	bool waiting; /* for INIT and SIPI */
	bool nmi_pending, nmi_blocked;
	bool leave; /* go back to soft_run(): the machine ended */

	/* Vector and x87 state, while the host's registers are not the guest's. */
	bool vectors_saved;
	u8 *xsave; /* 64-byte aligned, standard format, components 0 to 2 */

	struct lapic *lapic;
	struct cache *cache;
	struct written {
		pthread_mutex_t lock;
		struct range {
			u64 gpa, length;
		} range[64];
		unsigned count;
		bool overflow;
	} written;		 /* what others wrote where we have code: sharing.c */
	pthread_mutex_t running; /* our thread has it, but while it waits: sharing.c */
	_Atomic u32 visitors;	 /* so many want it; a private futex */
	bool alone;		 /* between vcpu_stop_others() and vcpu_let_others_run() */
	struct soft_stats stats;
	int tid;	    /* 0: not running yet */
	_Atomic u32 asleep; /* futex, a private one: 1 while halted */
	timer_t timer;	    /* sends ENGINE_SIGNAL to our thread */

	/* The memory operand that goes through the bounce buffer: mmu.c. */
	struct {
		u64 gpa[2];  /* first part, and what is in the next page */
		u8 *host[2]; /* NULL: not RAM */
		unsigned length[2];
		bool pending; /* to be written back */
		bool masked;  /* not all of it is touched: */
		u64 touched;  /* bit n: its byte n is */
		u8 *place;    /* in the buffer */
	} bounce;
	struct {
		u8 vector;
		int32_t offset; /* of the instruction from ctx.page */
	} trap;			/* the host's, in translated code */
	struct bare bare;
	struct address_space space[SPACES];
	struct address_space *current_space; /* ctx.user is in it */
	u64 space_clock;
	struct walk walk[WALKS_KEPT];
	u64 walk_epoch;		/* what was kept in an earlier one is forgotten */
	bool interrupt_waiting; /* one came while IF was clear */
	unsigned pauses;	/* since it last let others have the host's processor */
	u8 bounce_buffer[256] __attribute__((aligned(64)));
};

struct ram {
	u64 gpa, size;
	u8 *host;
	_Atomic u64 *pages; /* one word per page: who may write it, who has code of it: sharing.c */
};

struct soft {
	struct engine engine;
	struct engine_options options;
	struct ram ram[RAM_PIECES];
	unsigned ram_count;
	struct cpuid_table cpuid;
	u64 tsc_hz;
	u64 tsc_start; /* when the engine was opened: kvmclock and traces count from it */
	FILE *trace;   /* NULL: off */
	FILE *perf_map;
	bool checked;		    /* translated code checks each host address: check.c */
	struct cache *spare_caches; /* of vCPUs that are gone */
	struct attached attached;
	struct cell **cells; /* one for each vCPU; NULL: none */
	unsigned vcpu_count, vcpus_added;
	struct vcpu *vcpus[];
};

/* ------------------------------------------------------------------ soft.c: memory */

/*
 * Zeroed, in whole pages, of which only those that are touched cost anything; NULL: errno says why.
 * What malloc() was given back it may keep, and a machine that reboots gives back megabytes.
 */
void *pages_new(u64 bytes);
void pages_free(void *pages, u64 bytes); /* NULL: nothing to do */

/* ------------------------------------------------------------------ vcpu.c: state */

/* As after RESET (Intel SDM 3A, "Processor State After Reset"), or `initial`. */
/* NULL with *problem filled. */
struct vcpu *vcpu_new(struct soft *soft, unsigned index, const struct cpu_state *initial,
		      struct problem *problem);
void vcpu_free(struct vcpu *vcpu);
/*
 * INIT: from whatever it was doing to waiting for a SIPI. The vCPU's thread, between instructions;
 * the local APIC is its own affair.
 */
void vcpu_init(struct vcpu *vcpu);

/* All of what a loader says, or a debugger sees. TLBs are the caller's affair. */
void vcpu_set_state(struct vcpu *vcpu, const struct cpu_state *state);
void vcpu_get_state(const struct vcpu *vcpu, struct cpu_state *state);

u64 vcpu_rflags(const struct vcpu *vcpu);
void vcpu_set_rflags(struct vcpu *vcpu, u64 rflags); /* any bit; vcpu_update_mode() included */
static inline bool vcpu_long_mode(const struct vcpu *vcpu)
{
	return vcpu->efer & EFER_LMA;
}
/* 64-bit mode, as opposed to compatibility mode. */
static inline bool vcpu_64bit(const struct vcpu *vcpu)
{
	return vcpu_long_mode(vcpu) && vcpu->seg[CS].l;
}
/* After any change of CR0, CR4, EFER, XCR0, CS, SS, segment bases outside 64-bit mode, CPL,
 * RFLAGS.AC. */
void vcpu_update_mode(struct vcpu *vcpu);

/* Load the hidden part too; CPL is not touched. */
void vcpu_set_segment(struct vcpu *vcpu, unsigned which, const struct segment *segment);

/* Wake it, or make it leave translated code soon. Any thread, and signal handlers. */
void vcpu_kick(struct vcpu *vcpu, u32 why);

/* Before anything that may use vector or x87 registers is called. Cheap the second time. */
void vectors_save(struct vcpu *vcpu);
/* On the way to the guest: its vector and x87 state into the host's registers, if it is not there.
 */
void vectors_restore(struct vcpu *vcpu);

/* Record an exception: always false. */
bool raise_fault(struct vcpu *vcpu, enum vector vector); /* without an error code */
bool raise_error(struct vcpu *vcpu, enum vector vector, u32 error);
bool raise_page_fault(struct vcpu *vcpu, u64 address, u32 error);
/* What was recorded came of an access through rsp or rbp: there a wrong address is #SS. */
void raised_through_stack(struct vcpu *vcpu);

/*
 * limit.c: the linear address of an offset in a segment, where an access of that length begins.
 * Outside 64-bit mode limits and rights are checked; else it is left to who uses the address to
 * find it not canonical.
 */
bool segment_access(struct vcpu *vcpu, unsigned which, u64 offset, unsigned length,
		    enum access access, u64 *linear);
/* The same for the memory operand, or `length` bytes of it. */
bool insn_access(struct vcpu *vcpu, const struct insn *insn, unsigned at, unsigned length,
		 enum access access, u64 *address);
/* The same for an instruction that accesses nothing: not checked. */
u64 insn_address(const struct vcpu *vcpu, const struct insn *insn);
/* May all of it be accessed as code and stacks are, whatever its base is? */
bool segment_is_flat(const struct vcpu *vcpu, unsigned which);

/* A general register at that size; a write of 4 bytes clears the upper half, as in 64-bit mode.
 * size 1: the low byte. */
u64 gpr_read(const struct vcpu *vcpu, unsigned reg, unsigned size);
void gpr_write(struct vcpu *vcpu, unsigned reg, unsigned size, u64 value);

/* The r/m operand of `size` bytes: register or memory. */
bool rm_read(struct vcpu *vcpu, const struct insn *insn, unsigned size, u64 *value);
bool rm_write(struct vcpu *vcpu, const struct insn *insn, unsigned size, u64 value);

/* ------------------------------------------------------------------ mmu.c */

/*
 * Guest-virtual memory by C: any length, all pages checked before the first byte is touched. Device
 * memory is accessed through the bus in pieces of up to 8 bytes. Writes to pages that hold code
 * drop the translations.
 */
bool mem_read(struct vcpu *vcpu, u64 address, void *to, unsigned length, enum access access);
bool mem_write(struct vcpu *vcpu, u64 address, const void *from, unsigned length,
	       enum access access);
static inline bool mem_read_u64(struct vcpu *vcpu, u64 address, u64 *value, enum access access)
{
	return mem_read(vcpu, address, value, 8, access);
}
/* Only the checks (and the accessed and dirty bits). */
bool mem_probe(struct vcpu *vcpu, u64 address, unsigned length, enum access access);

/*
 * The host address of this byte and of what follows up to the end of its page, if it is plain RAM
 * and this access is allowed; else NULL, and nothing recorded: mem_read() and mem_write() then find
 * out what is the matter. Fast: a TLB hit, mostly.
 */
u8 *mem_direct(struct vcpu *vcpu, u64 address, enum access access);

/*
 * A linear address as this access forms it: of 32 bits outside 64-bit mode, where they wrap; but
 * in long mode the system's own tables may be anywhere.
 */
static inline u64 linear_address(const struct vcpu *vcpu, u64 address, enum access access)
{
	bool wide = access & ACCESS_SYSTEM ? vcpu_long_mode(vcpu) : !(vcpu->mode & MODE_CODE);

	return wide ? address : (u32)address;
}

/* Translate a virtual address: the guest-physical one, faults as usual. For fetch: translate.c. */
bool mmu_translate(struct vcpu *vcpu, u64 address, enum access access, u64 *gpa);

/* PKRU, by WRPKRU or a state image. */
void mmu_set_pkru(struct vcpu *vcpu, u32 value);

/* ------------------------------------------------------------------ tlb.c */

/* The tables of one view, for who is running. */
static inline struct lookup *vcpu_lookup(struct vcpu *vcpu, enum view view)
{
	return view == VIEW_USER ? vcpu->ctx.user : &vcpu->ctx.kernel[view];
}

/* They all take the jump caches along. */
void tlb_set_up(struct vcpu *vcpu);
/* Of all address spaces with, of the current one without global pages. */
void tlb_flush(struct vcpu *vcpu, bool global_too);
void tlb_flush_page(struct vcpu *vcpu, u64 address); /* INVLPG */
/* INVPCID: of that address space; that, but for global pages; all, but for global pages */
void tlb_flush_page_of(struct vcpu *vcpu, u32 pcid, u64 address);
void tlb_flush_space(struct vcpu *vcpu, u32 pcid);
void tlb_flush_spaces(struct vcpu *vcpu);
/* MOV to CR3: another address space is the current one. */
void tlb_switch(struct vcpu *vcpu, u32 pcid, bool keep);

/* The piece of RAM that this guest-physical address is in; NULL: it is in none. */
static inline const struct ram *ram_piece(const struct soft *soft, u64 gpa)
{
	for (unsigned i = 0; i < soft->ram_count; i++)
		if (gpa - soft->ram[i].gpa < soft->ram[i].size)
			return &soft->ram[i];
	return NULL;
}

/* Guest-physical RAM, by the page: NULL where there is none. */
u8 *ram_at(const struct soft *soft, u64 gpa);
/* Device memory: the local APIC's page, else the bus. */
u64 mmio_read(struct vcpu *vcpu, u64 gpa, unsigned length);
void mmio_write(struct vcpu *vcpu, u64 gpa, unsigned length, u64 value);

/* ------------------------------------------------------------------ system.c: control registers,
 * MSRs (msr.c), ports */

/*
 * Handlers of single instructions. When called, ctx.rip is the next instruction's (handlers that
 * jump overwrite it), insn_rip the instruction's own; they return true when done.
 */
/* control.c: as MOV does it; task switches do, too. False: #GP, recorded. */
bool control_load_cr3(struct vcpu *vcpu, u64 value);
handler system_mov_cr, system_clts, system_lmsw, system_smsw;
handler system_lgdt, system_lidt, system_sgdt, system_sidt, system_lldt, system_sldt, system_ltr,
	system_str;
handler system_lar, system_lsl, system_verr, system_verw;
handler system_cpuid, system_rdmsr, system_wrmsr, system_rdtsc, system_rdtscp, system_rdpid,
	system_rdpmc;
handler system_xgetbv, system_xsetbv, system_rdpkru, system_wrpkru, system_swapgs, system_fsgsbase;
handler system_invlpg, system_invpcid, system_invd, system_hlt, system_pause, system_cli,
	system_sti, system_clac, system_stac;
handler system_in, system_out, system_ins, system_outs;
handler system_pushf, system_popf;
handler system_cld, system_std;
handler system_mov_dr; /* debug.c */
handler system_vmcall; /* run.c: a hypercall: none is offered */

/* near.c: near calls and the stack, where translated code leaves them to C */
handler near_push, near_pop, near_pusha, near_popa, near_leave, near_call, near_ret, near_loop;
handler stack_enter;

/* legacy.c: what 64-bit mode has no more */
handler legacy_aaa, legacy_aad, legacy_aam, legacy_aas, legacy_daa, legacy_das, legacy_salc;
handler legacy_bound, legacy_arpl;

/* segment.c: everything that loads a segment register, and far transfers; return.c: the ways back,
 * syscall.c: those without a table */
handler segment_mov_to, segment_mov_from;	     /* mov sreg, r/m; mov r/m, sreg */
handler segment_push, segment_pop, segment_load_far; /* push/pop fs..., lss, lfs, lgs (les, lds) */
handler segment_jmp_far, segment_call_far, segment_ret_far, segment_iret;
/* After any change of IA32_STAR, IA32_FMASK or EFER. */
void syscall_prepare(struct vcpu *vcpu);
handler segment_syscall, segment_sysret, segment_sysenter, segment_sysexit;

/* interrupt.c: delivery */
handler interrupt_int3, interrupt_int1, interrupt_int, interrupt_into;
/* Deliver what raise_*() recorded; double and triple faults are dealt with here (the latter ends
 * the machine: vcpu->leave). */
void interrupt_deliver_exception(struct vcpu *vcpu);
/* An external interrupt or NMI, between instructions. */
void interrupt_deliver(struct vcpu *vcpu, u8 vector);

/* fpu.c: state images, without host addresses in them */
handler fpu_fxsave, fpu_fxrstor, fpu_fnstenv, fpu_fnsave;
/* xsave.c: XSAVE and XSAVEOPT, XSAVEC and XSAVES, XRSTOR and XRSTORS */
handler fpu_xsave, fpu_xsavec, fpu_xrstor;
u64 fpu_in_use(struct vcpu *vcpu); /* components, as XGETBV tells */
/* elements.c: VEX gathers, masked moves and MASKMOVDQU; EVEX gathers and scatters */
handler fpu_gather, fpu_maskmov, fpu_gather_masked, fpu_scatter, move_64_bytes;
u64 fpu_saved_mask(struct vcpu *vcpu, unsigned reg); /* K0 to K7, after vectors_save() */
void fpu_reset(struct vcpu *vcpu); /* the guest's registers as after RESET, in vcpu->xsave */

/* string.c: MOVS, CMPS, STOS, LODS, SCAS with every prefix; restartable, returns early (rip at the
 * instruction) when polled */
handler string_movs, string_cmps, string_stos, string_lods, string_scas;

/* cpuid.c */
/*
 * Has the host what the engine needs? Then soft->cpuid says what guests are offered, for
 * cpuid_read(). -errno with *problem filled.
 */
int cpuid_check_host(struct soft *soft, struct problem *why);
/* The same for the CPU that `host` tells of, with that XCR0. */
typedef void cpuid_source(u32 leaf, u32 subleaf, struct cpuid_result *result);
int cpuid_fill(struct cpuid_table *table, cpuid_source *host, u64 xcr0, struct problem *why);
void cpuid_read(const struct vcpu *vcpu, u32 leaf, u32 subleaf, struct cpuid_result *result);
unsigned cpuid_address_bits(void); /* guest-physical */
/* Bytes of XSAVE's image in the standard format with these components. */
u32 cpuid_image_size(const struct xsave_layout *layout, u64 components);

/* msr.c: false and #GP where there is no such MSR, or it does not take the value */
bool msr_read(struct vcpu *vcpu, u32 index, u64 *value);
bool msr_write(struct vcpu *vcpu, u32 index, u64 value);

/* clock.c */
void clock_measure(struct soft *soft); /* tsc_hz and tsc_start */
u64 clock_tsc(void);
u64 clock_tsc_to_ns(const struct soft *soft, u64 ticks); /* a difference */
u64 clock_ns_to_tsc(const struct soft *soft, u64 ns);
/* The guest wrote MSR_KVM_SYSTEM_TIME(_NEW) or WALL_CLOCK: fill the structure in its memory. */
void clock_publish_system_time(struct vcpu *vcpu);
void clock_publish_wall_clock(struct vcpu *vcpu);

/* lapic.c and lapic_*.c: all by the vCPU's thread, but for lapic_message() */
#define APIC_BASE_BSP	 (1u << 8)
#define APIC_BASE_X2	 (1u << 10)
#define APIC_BASE_ENABLE (1u << 11)
struct lapic *lapic_new(struct vcpu *vcpu);
void lapic_free(struct lapic *lapic);
u64 lapic_base_get(const struct vcpu *vcpu);
bool lapic_base_set(struct vcpu *vcpu,
		    u64 value);		       /* IA32_APIC_BASE: false: #GP is due (not raised) */
u32 lapic_read(struct vcpu *vcpu, u32 offset); /* xAPIC, offset in its page */
void lapic_write(struct vcpu *vcpu, u32 offset, u32 value);
bool lapic_x2_read(struct vcpu *vcpu, u32 msr,
		   u64 *value); /* MSRs 0x800..0x8ff; false: #GP is due (not raised) */
bool lapic_x2_write(struct vcpu *vcpu, u32 msr, u64 value);
void lapic_set_tpr(struct vcpu *vcpu, u8 tpr); /* CR8 << 4 */
u8 lapic_tpr(struct vcpu *vcpu);
void lapic_set_deadline(struct vcpu *vcpu, u64 tsc); /* IA32_TSC_DEADLINE */
u64 lapic_deadline(struct vcpu *vcpu);
void lapic_message(struct soft *soft, u64 address, u32 data); /* an MSI; any thread */
/* The timer may have rung: look at the clock. Called at each poll with POLL_INTERRUPT, and when a
 * halted vCPU wakes. */
void lapic_tick(struct vcpu *vcpu);
/* The highest interrupt that may be delivered now, or -1; and taking it (IRR to ISR). */
int lapic_pending(struct vcpu *vcpu);
void lapic_accept(struct vcpu *vcpu, u8 vector);

/* ------------------------------------------------------------------ bare.c: user code as it is */

/* Then no jump to user code may be remembered: each has to come by. */
static inline bool bare_is_wanted(const struct vcpu *vcpu)
{
	return vcpu->current_space->bare.wanted && cell_works(vcpu->bare.cell) &&
	       (vcpu->mode & MODE_VIEW) == VIEW_USER;
}

/* It was interrupted, which happens to those who take their time. */
void bare_sample(struct vcpu *vcpu);
/* BARE_RAN: it did, or a fault is due. BARE_ALONE: the next instruction is the translator's. */
enum bare_result { BARE_RAN, BARE_ALONE, BARE_NOT } bare_run(struct vcpu *vcpu);
/* What an address space has there is not so any more. */
void bare_forget_page(struct vcpu *vcpu, u64 address);
/* That page of RAM may not be written any more, or not be executed as it is. */
void bare_forget_rights(struct vcpu *vcpu, u64 gpa);

/*
 * telltale.c: has this page code that must not run there? Is CPUID such? Where its first or last
 * bytes may be, that depends on the pages on either side, of which NULL are those that the guest
 * has not. After vectors_save().
 */
enum bare_code {
	BARE_CODE_UNKNOWN,
	BARE_CODE_REFUSED,
	BARE_CODE_DEPENDS,
	BARE_CODE_FINE,
};
enum bare_code page_tells_of_host(const u8 *page, bool cpuid);
bool page_edges_tell(const u8 *before, const u8 *page, const u8 *after, bool cpuid);

/* ------------------------------------------------------------------ cache.c: translated code */

struct cache *cache_new(struct vcpu *vcpu, u64 bytes, struct problem *problem);
void cache_free(struct cache *cache);
/* Empty, and kept for the next cache_new(): the vCPU, which has none any more, is about to go. */
void cache_spare(struct vcpu *vcpu);
void cache_free_spares(struct soft *soft);
/* Drop what this vCPU translated from these bytes. Its thread, between instructions or in a
 * handler. True: there was something. */
bool cache_invalidate(struct vcpu *vcpu, u64 gpa, u64 length);
/* May it have code of these bytes, of one page? Any thread, after it wrote them. */
bool cache_may_have(const struct vcpu *vcpu, u64 gpa, u64 length);
void cache_flush(struct vcpu *vcpu);
/*
 * May the code of that page run bare? Then we hear of each write to it from now on: bare.stale. We
 * know only of pages that there are translations of: those are watched already.
 */
enum bare_code cache_bare_code(struct vcpu *vcpu, u64 gpa);

/* ------------------------------------------------------------------ sharing.c: several vCPUs */

/* Our own `running`: let go of it to wait for something, and get it back. */
void vcpu_rest(struct vcpu *vcpu);
void vcpu_resume(struct vcpu *vcpu);
/* At POLL_VISIT: let those have it who want it. */
void vcpu_give_way(struct vcpu *vcpu);
/*
 * Until vcpu_let_others_run() no other vCPU is inside an instruction. What was looked up in a TLB
 * before must be looked up again.
 */
void vcpu_stop_others(struct vcpu *vcpu);
/* If they were stopped at all. */
void vcpu_let_others_run(struct vcpu *vcpu);

/* May this vCPU have a tag for writing that page of RAM? Not if anybody has code of it. */
bool page_allow_writing(struct vcpu *vcpu, u64 gpa);
/* It is about to translate from that page: on return nobody can write it unnoticed. */
void page_has_code_now(struct vcpu *vcpu, u64 gpa);
void page_has_no_code(struct vcpu *vcpu, u64 gpa);

/*
 * This vCPU wrote to RAM in another way than through a tag: who has code of it must drop it. True:
 * we had.
 */
bool cache_written(struct vcpu *vcpu, u64 gpa, u64 length);
/* guest_ram_written() */
void cache_device_wrote(void *soft, u64 gpa, u64 length);
void cache_drop_written(struct vcpu *vcpu); /* at POLL_CODE */

/* ------------------------------------------------------------------ run.c */

/* This thread is the vCPU. */
void soft_vcpu_run(struct vcpu *vcpu);

/* ------------------------------------------------------------------ observe.c: --trace,
 * --soft-stats */

int trace_open(struct soft *soft, struct problem *problem);
void trace_close(struct soft *soft);
void trace_print(struct vcpu *vcpu, const char *format, ...)
	PRINTF(2, 3); /* TRACE(vcpu, INT, "..."): saves the vectors; one line, newline added */
#define TRACE(vcpu, what, ...)                                                                     \
	do {                                                                                       \
		if (__builtin_expect((vcpu)->soft->options.trace & SOFT_TRACE_##what, 0))          \
			trace_print(vcpu, __VA_ARGS__);                                            \
	} while (0)
void stats_print(const struct soft *soft); /* on standard error */

/* ------------------------------------------------------------------ perf_map.c: --soft-perf */

int perf_map_open(struct soft *soft, struct problem *problem);
void perf_map_close(struct soft *soft);

#endif
