/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The KVM engine: the host's kernel runs the guest, and comes back to us for
 * whatever it does not know itself.
 *
 * The local APICs are KVM's, because they are what interrupts a running CPU. The
 * IOAPIC is not ("split irqchip"): it is ours, as on every engine, and KVM only
 * needs to know which of its pins are level-triggered, so that it tells us when
 * the guest is done with one.
 *
 * Tour 5.120
 */
#include "engine/kvm/kvm.h"

#include "board/board.h"
#include "engine/kvm/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/*
 * Intel hosts without "unrestricted guest" need four pages for tricks of their
 * own, somewhere in guest-physical space where nothing else is.
 */
#define IDENTITY_MAP 0xfffbc000u
#define TASK_STATE   (IDENTITY_MAP + PAGE_SIZE)

#define MSR_MTRR_DEFAULT_TYPE 0x2ff
#define MTRR_ENABLED	      (1u << 11)
#define MTRR_WRITE_BACK	      6

#define MSR_MISC_ENABLE	    0x1a0
#define MISC_ENABLE_STRINGS (1u << 0)

struct notifier {
	struct kvm_ioeventfd request;
};

static const struct {
	int capability;
	const char *name;
} needed[] = {
	{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
	{KVM_CAP_SPLIT_IRQCHIP, "KVM_CAP_SPLIT_IRQCHIP"},
	{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
	{KVM_CAP_SIGNAL_MSI, "KVM_CAP_SIGNAL_MSI"},
	{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
	{KVM_CAP_IOEVENTFD_ANY_LENGTH, "KVM_CAP_IOEVENTFD_ANY_LENGTH"},
	{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
	{KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
};

static struct kvm *kvm_of(struct engine *engine)
{
	return container_of(engine, struct kvm, engine);
}

/* Nothing to do: that it came is what ends the ioctl. */
static void kicked(int signal)
{
	(void)signal;
}

static int open_device(struct problem *why)
{
	int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	int version;

	if (fd < 0) {
		const char *help = "";

		if (errno == ENOENT)
			help = " (load the module kvm_intel or kvm_amd, or switch virtualisation "
			       "on in "
			       "the firmware)";
		if (errno == EACCES || errno == EPERM)
			help = " (join the group that owns it, often kvm)";
		return problem(why, errno, "cannot open /dev/kvm: %s%s", strerror(errno), help);
	}
	version = ioctl(fd, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION) {
		close(fd);
		return problem(why, ENOTTY, "/dev/kvm speaks version %d of its interface, not %d",
			       version, KVM_API_VERSION);
	}
	return fd;
}

static int check_capabilities(const struct kvm *kvm, struct problem *why)
{
	int most = ioctl(kvm->device, KVM_CHECK_EXTENSION, KVM_CAP_MAX_VCPUS);

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(kvm->device, KVM_CHECK_EXTENSION, needed[i].capability) <= 0)
			return problem(why, ENOSYS,
				       "/dev/kvm lacks %s (a newer host kernel has it)",
				       needed[i].name);
	most = MIN(most, KVM_VCPUS_MAX);
	if (kvm->vcpu_count > (unsigned)most)
		return problem(why, EINVAL, "--cpus=%u: /dev/kvm can do %d at most",
			       kvm->vcpu_count, most);
	return 0;
}

static int create_vm(struct kvm *kvm, struct problem *why)
{
	struct kvm_enable_cap split = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {GSI_COUNT}};
	u64 identity_map = IDENTITY_MAP;

	do
		kvm->vm = ioctl(kvm->device, KVM_CREATE_VM, 0);
	while (kvm->vm < 0 && errno == EINTR);
	if (kvm->vm < 0)
		return problem(why, errno, "/dev/kvm: cannot create a virtual machine: %s",
			       strerror(errno));
	if (ioctl(kvm->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) ||
	    ioctl(kvm->vm, KVM_SET_TSS_ADDR, TASK_STATE))
		return problem(why, errno, "/dev/kvm: cannot place its own pages: %s",
			       strerror(errno));
	if (ioctl(kvm->vm, KVM_ENABLE_CAP, &split))
		return problem(why, errno, "/dev/kvm: cannot split the interrupt controller: %s",
			       strerror(errno));
	return 0;
}

/* As it is before it is made. */
static const struct kvm_vcpu no_vcpu = {.fd = -1, .action = DEBUG_RUN};

static void destroy_vm(struct kvm *kvm)
{
	for (unsigned i = 0; i < kvm->vcpu_count; i++) {
		struct kvm_vcpu *vcpu = &kvm->vcpus[i];

		if (vcpu->run)
			munmap(vcpu->run, kvm->run_size);
		if (vcpu->fd >= 0)
			close(vcpu->fd);
		*vcpu = no_vcpu;
	}
	if (kvm->vm >= 0)
		close(kvm->vm);
	kvm->vm = -1;
	kvm->slots = 0;
	kvm->vcpus_added = 0;
	kvm->level_pins = 0;
	kvm_debug_forget(kvm);
}

static void kvm_close(struct engine *engine)
{
	struct kvm *kvm = kvm_of(engine);

	destroy_vm(kvm);
	close(kvm->device);
	pthread_mutex_destroy(&kvm->routes_lock);
	kvm_debug_destroy(kvm);
	free(kvm->cpuid);
	free(kvm);
}

static int set_up(struct kvm *kvm, struct problem *why)
{
	int size, err;

	err = check_capabilities(kvm, why);
	if (err)
		return err;
	size = ioctl(kvm->device, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (size < (int)sizeof(struct kvm_run))
		return problem(why, EINVAL, "/dev/kvm: a vCPU's shared page has %d bytes", size);
	kvm->run_size = size;
	kvm->cpuid = kvm_cpuid_new(kvm);
	if (!kvm->cpuid)
		return problem(why, EIO, "/dev/kvm does not say what its CPUs can do");
	return create_vm(kvm, why);
}

static struct engine *kvm_open(struct board *board, const struct engine_options *options,
			       struct problem *why)
{
	unsigned vcpus = options->vcpus;
	struct sigaction kick = {.sa_handler = kicked};
	int device = open_device(why);
	struct kvm *kvm;

	if (device < 0)
		return NULL;
	kvm = calloc(1, sizeof(*kvm) + vcpus * sizeof(kvm->vcpus[0]));
	if (!kvm) {
		close(device);
		problem(why, ENOMEM, "out of memory");
		return NULL;
	}
	kvm->engine = (struct engine){.ops = &kvm_engine, .board = board};
	kvm->device = device;
	kvm->vm = -1;
	kvm->vcpu_count = vcpus;
	for (unsigned i = 0; i < vcpus; i++)
		kvm->vcpus[i] = no_vcpu;
	pthread_mutex_init(&kvm->routes_lock, NULL);
	kvm_debug_init(kvm);
	/* Without SA_RESTART: interrupting is the point. */
	sigaction(ENGINE_SIGNAL, &kick, NULL);
	if (set_up(kvm, why)) {
		kvm_close(&kvm->engine);
		return NULL;
	}
	return &kvm->engine;
}

static int kvm_reset(struct engine *engine, struct problem *why)
{
	struct kvm *kvm = kvm_of(engine);

	destroy_vm(kvm);
	return create_vm(kvm, why);
}

/*
 * Guest-physical memory is a piece of our own: KVM is told from where, and walks our page
 * tables whenever the guest touches a page for the first time. That is all there is to it.
 *
 * Tour 5.121: Memory, as KVM wants it
 */
static int kvm_map(struct engine *engine, u64 gpa, u64 size, void *host, struct problem *why)
{
	struct kvm *kvm = kvm_of(engine);
	unsigned bits = kvm_cpuid_address_bits(kvm);
	struct kvm_userspace_memory_region slot = {
		.slot = kvm->slots,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (u64)host,
	};

	/* Older kernels take what the processor cannot address, and the guest then dies of it. */
	if (gpa + size > 1ull << bits)
		return problem(why, E2BIG,
			       "the guest's memory would end at %" PRIu64
			       " GiB: this processor can address %llu GiB",
			       (gpa + size) >> 30, (1ull << bits) >> 30);
	if (ioctl(kvm->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return problem(why, errno, "/dev/kvm does not take %" PRIu64 " MiB of memory: %s",
			       size >> 20, strerror(errno));
	kvm->slots++;
	return 0;
}

int kvm_vcpu_create(struct kvm *kvm, unsigned index, struct problem *why)
{
	struct kvm_vcpu *vcpu = &kvm->vcpus[index];
	void *run;
	int err;

	if (vcpu->fd >= 0)
		return 0;
	vcpu->fd = ioctl(kvm->vm, KVM_CREATE_VCPU, index);
	if (vcpu->fd < 0)
		return problem(why, errno, "/dev/kvm: cannot create vCPU %u: %s", index,
			       strerror(errno));
	run = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
	if (run == MAP_FAILED)
		return problem(why, errno, "/dev/kvm: cannot map the state of vCPU %u: %s", index,
			       strerror(errno));
	vcpu->run = run;
	err = kvm_cpuid_set(kvm, index);
	if (err)
		return problem(why, -err, "/dev/kvm does not take its own CPUID: %s",
			       strerror(-err));
	return 0;
}

static struct kvm_segment kvm_segment(const struct segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->selector,
		.type = s->type,
		.present = s->present,
		.dpl = s->dpl,
		.db = s->db,
		.s = s->s,
		.l = s->l,
		.g = s->g,
		.avl = s->avl,
		.unusable = !s->present,
	};
}

int kvm_vcpu_set_state(const struct kvm_vcpu *vcpu, const struct cpu_state *state)
{
	const u64 *gpr = state->gpr;
	struct kvm_regs regs = {
		.rax = gpr[RAX],
		.rcx = gpr[RCX],
		.rdx = gpr[RDX],
		.rbx = gpr[RBX],
		.rsp = gpr[RSP],
		.rbp = gpr[RBP],
		.rsi = gpr[RSI],
		.rdi = gpr[RDI],
		.r8 = gpr[8],
		.r9 = gpr[9],
		.r10 = gpr[10],
		.r11 = gpr[11],
		.r12 = gpr[12],
		.r13 = gpr[13],
		.r14 = gpr[14],
		.r15 = gpr[15],
		.rip = state->rip,
		.rflags = state->rflags,
	};
	struct kvm_sregs sregs;

	/* The APIC's base stays what KVM made it. */
	if (ioctl(vcpu->fd, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs = kvm_segment(&state->cs);
	sregs.ds = kvm_segment(&state->ds);
	sregs.es = kvm_segment(&state->es);
	sregs.fs = kvm_segment(&state->fs);
	sregs.gs = kvm_segment(&state->gs);
	sregs.ss = kvm_segment(&state->ss);
	sregs.tr = kvm_segment(&state->tr);
	sregs.ldt = kvm_segment(&state->ldt);
	sregs.gdt = (struct kvm_dtable){.base = state->gdt.base, .limit = state->gdt.limit};
	sregs.idt = (struct kvm_dtable){.base = state->idt.base, .limit = state->idt.limit};
	sregs.cr0 = state->cr0;
	sregs.cr2 = state->cr2;
	sregs.cr3 = state->cr3;
	sregs.cr4 = state->cr4;
	sregs.efer = state->efer;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) || ioctl(vcpu->fd, KVM_SET_REGS, &regs))
		return -errno;
	return 0;
}

int kvm_access_msr(const struct kvm_vcpu *vcpu, unsigned long request, u32 index, u64 *value)
{
	union {
		struct kvm_msrs list;
		u8 room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
	} msrs = {.list.nmsrs = 1};
	int n;

	msrs.list.entries[0] = (struct kvm_msr_entry){.index = index, .data = *value};
	n = ioctl(vcpu->fd, request, &msrs);
	if (n < 0)
		return -errno;
	*value = msrs.list.entries[0].data;
	return n == 1 ? 0 : -EINVAL;
}

/*
 * What a firmware would do, if there were one. A kernel that finds memory uncached by
 * default switches the page attribute table off; one that finds fast string operations off
 * copies by hand from then on. Not all processors have the latter bit: then it is not missed.
 *
 * Tour 5.122
 */
static int play_firmware(const struct kvm_vcpu *vcpu)
{
	u64 memory_type = MTRR_ENABLED | MTRR_WRITE_BACK, features = 0;

	if (!kvm_access_msr(vcpu, KVM_GET_MSRS, MSR_MISC_ENABLE, &features)) {
		features |= MISC_ENABLE_STRINGS;
		kvm_access_msr(vcpu, KVM_SET_MSRS, MSR_MISC_ENABLE, &features);
	}
	return kvm_access_msr(vcpu, KVM_SET_MSRS, MSR_MTRR_DEFAULT_TYPE, &memory_type);
}

static int kvm_add_vcpu(struct engine *engine, const struct cpu_state *initial, struct problem *why)
{
	struct kvm *kvm = kvm_of(engine);
	unsigned index = kvm->vcpus_added;
	int err = kvm_vcpu_create(kvm, index, why);

	if (err)
		return err;
	err = play_firmware(&kvm->vcpus[index]);
	if (!err && initial)
		err = kvm_vcpu_set_state(&kvm->vcpus[index], initial);
	if (err)
		return problem(why, -err, "/dev/kvm does not take the state of vCPU %u: %s", index,
			       strerror(-err));
	kvm->vcpus_added++;
	return 0;
}

/*
 * Some processors have forgotten everything by the time we hear of a shutdown:
 * AMD's comes back as if reset. A wrong place is worse than none.
 */
static void report_shutdown(const struct kvm *kvm, unsigned index)
{
	struct machine *machine = kvm->engine.board->machine;
	struct kvm_regs regs;
	struct kvm_sregs sregs;

	if (ioctl(kvm->vcpus[index].fd, KVM_GET_REGS, &regs) ||
	    ioctl(kvm->vcpus[index].fd, KVM_GET_SREGS, &sregs) ||
	    (regs.rip == 0xfff0 && sregs.cs.base == 0xffff0000))
		machine_stop(machine, EXIT_CRASHED,
			     "the guest crashed: triple fault on vCPU %u (where is not known: KVM "
			     "lost its state)",
			     index);
	else
		machine_stop(
			machine, EXIT_CRASHED,
			"the guest crashed: triple fault on vCPU %u at rip 0x%llx (cs 0x%x, rsp "
			"0x%llx, cr2 0x%llx, cr3 0x%llx)",
			index, regs.rip, sregs.cs.selector, regs.rsp, sregs.cr2, sregs.cr3);
}

static void report_error(const struct kvm *kvm, unsigned index, int err)
{
	struct machine *machine = kvm->engine.board->machine;
	const struct kvm_run *run = kvm->vcpus[index].run;
	struct kvm_regs regs = {0};

	ioctl(kvm->vcpus[index].fd, KVM_GET_REGS, &regs);
	if (err == EFAULT)
		machine_stop(
			machine, EXIT_CRASHED,
			"vCPU %u stopped at rip 0x%llx: the host has no memory for it (was the "
			"kernel or initrd file truncated?)",
			index, regs.rip);
	else if (err)
		machine_stop(machine, EXIT_CRASHED, "vCPU %u stopped at rip 0x%llx: KVM_RUN: %s",
			     index, regs.rip, strerror(err));
	else if (run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		machine_stop(machine, EXIT_CRASHED,
			     "vCPU %u stopped at rip 0x%llx: KVM cannot emulate what is there "
			     "(internal error %u)",
			     index, regs.rip, run->internal.suberror);
	else if (run->exit_reason == KVM_EXIT_FAIL_ENTRY)
		machine_stop(machine, EXIT_CRASHED,
			     "vCPU %u cannot enter the guest: hardware reason 0x%llx", index,
			     run->fail_entry.hardware_entry_failure_reason);
	else
		machine_stop(machine, EXIT_CRASHED, "vCPU %u stopped at rip 0x%llx: KVM exit %u",
			     index, regs.rip, run->exit_reason);
}

/*
 * A string instruction makes `count` accesses in one exit: stop between them if the first powered
 * us off.
 *
 * The three functions here are all of emulation under KVM: whatever the exit says becomes one
 * call of the bus. The answer to a read lies in the shared page, and KVM puts it into the
 * guest's register on its way back in.
 *
 * Tour 5.123, 3 items: Why the processor came back
 */
static void port_access(struct board *board, struct kvm_run *run)
{
	u8 *data = (u8 *)run + run->io.data_offset;

	for (u32 i = 0; i < run->io.count; i++, data += run->io.size) {
		u64 value = 0;

		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = bus_read(board->bus, PORT, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		} else {
			memcpy(&value, data, run->io.size);
			bus_write(board->bus, PORT, run->io.port, run->io.size, value);
			if (!machine_running(board->machine))
				return;
		}
	}
}

static void memory_access(struct board *board, struct kvm_run *run)
{
	u64 value = 0;

	if (run->mmio.is_write) {
		memcpy(&value, run->mmio.data, run->mmio.len);
		bus_write(board->bus, MEMORY, run->mmio.phys_addr, run->mmio.len, value);
	} else {
		value = bus_read(board->bus, MEMORY, run->mmio.phys_addr, run->mmio.len);
		memcpy(run->mmio.data, &value, run->mmio.len);
	}
}

static void handle_exit(struct kvm *kvm, unsigned index)
{
	struct board *board = kvm->engine.board;
	struct kvm_run *run = kvm->vcpus[index].run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		port_access(board, run);
		break;
	case KVM_EXIT_MMIO:
		memory_access(board, run);
		break;
	case KVM_EXIT_IOAPIC_EOI:
		board_eoi(board, run->eoi.vector);
		break;
	case KVM_EXIT_DEBUG:
		kvm_debug_exit(kvm, index);
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	case KVM_EXIT_SHUTDOWN:
		report_shutdown(kvm, index);
		break;
	default:
		report_error(kvm, index, 0);
	}
}

/*
 * This thread is the vCPU now, for the whole of a guest's life, inside one line of the loop.
 *
 * Tour 5.124: The loop
 */
static void kvm_run(struct engine *engine, unsigned index)
{
	struct kvm *kvm = kvm_of(engine);
	struct kvm_vcpu *vcpu = &kvm->vcpus[index];
	sigset_t kick;

	/* Whoever started us may have blocked it, and that is inherited. */
	sigemptyset(&kick);
	sigaddset(&kick, ENGINE_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	vcpu->thread = pthread_self();
	/*
	 * From here on kvm_stop() kicks us; and if it has been already, the machine is not running.
	 */
	atomic_store(&vcpu->started, true);
	if (kvm->debug.debugger)
		kvm_debug_enter(kvm, index);
	while (machine_running(engine->board->machine)) {
		if (!ioctl(vcpu->fd, KVM_RUN, 0))
			handle_exit(kvm, index);
		else if (errno != EINTR && errno != EAGAIN)
			report_error(kvm, index, errno);
		else if (kvm->debug.debugger)
			kvm_debug_gate(kvm, index);
	}
	if (kvm->debug.debugger)
		kvm_debug_leave(kvm, index);
}

static void kvm_stop(struct engine *engine)
{
	struct kvm *kvm = kvm_of(engine);

	for (unsigned i = 0; i < kvm->vcpus_added; i++) {
		struct kvm_vcpu *vcpu = &kvm->vcpus[i];

		/*
		 * The flag for one that is about to enter the guest, the signal for one that is
		 * there.
		 */
		__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		if (atomic_load(&vcpu->started))
			pthread_kill(vcpu->thread, ENGINE_SIGNAL);
	}
	kvm_debug_wake(kvm);
}

/*
 * An interrupt, as our IOAPIC and every virtio device send it. Which vCPU that is for, and how
 * to get it out of the guest for a moment, is all in the host's kernel.
 *
 * Tour 5.125
 */
static void kvm_msi(struct engine *engine, u64 address, u32 data)
{
	struct kvm_msi msi = {
		.address_lo = (u32)address,
		.address_hi = address >> 32,
		.data = data,
	};

	/* A guest may address nobody: then nobody is interrupted. */
	ioctl(kvm_of(engine)->vm, KVM_SIGNAL_MSI, &msi);
}

static bool same_message(const struct kvm_irq_routing_entry *a,
			 const struct kvm_irq_routing_entry *b)
{
	return a->u.msi.address_lo == b->u.msi.address_lo &&
	       a->u.msi.address_hi == b->u.msi.address_hi && a->u.msi.data == b->u.msi.data;
}

/* Tell KVM the table with this pin in it, or without. What it refuses we do not remember either. */
static void set_route(struct kvm *kvm, unsigned pin, bool wanted,
		      const struct kvm_irq_routing_entry *route)
{
	union {
		struct kvm_irq_routing list;
		u8 room[sizeof(struct kvm_irq_routing) + sizeof(kvm->routes)];
	} table = {.list.nr = 0};
	u32 level_pins = (kvm->level_pins & ~(1u << pin)) | (u32)wanted << pin;

	for (unsigned i = 0; i < GSI_COUNT; i++)
		if (level_pins & 1u << i)
			table.list.entries[table.list.nr++] = i == pin ? *route : kvm->routes[i];
	if (ioctl(kvm->vm, KVM_SET_GSI_ROUTING, &table))
		return;
	kvm->level_pins = level_pins;
	kvm->routes[pin] = *route;
}

/*
 * KVM reports the end of a level-triggered interrupt only for pins that are level-triggered
 * in its own table (otherwise it is silent, and the pin stuck). It stays there while it is
 * masked: its last interrupt may still be in service.
 */
static void kvm_ioapic_route(struct engine *engine, unsigned pin, u64 address, u32 data, bool level,
			     bool masked)
{
	struct kvm *kvm = kvm_of(engine);
	struct kvm_irq_routing_entry route = {
		.gsi = pin,
		.type = KVM_IRQ_ROUTING_MSI,
		.u.msi = {.address_lo = (u32)address, .address_hi = address >> 32, .data = data},
	};
	bool known, wanted;

	pthread_mutex_lock(&kvm->routes_lock);
	known = kvm->level_pins & 1u << pin;
	wanted = level && (known || !masked);
	if (known != wanted || (wanted && !same_message(&kvm->routes[pin], &route)))
		set_route(kvm, pin, wanted, &route);
	pthread_mutex_unlock(&kvm->routes_lock);
}

/*
 * What makes virtio fast here: a write to this address, by the guest, is a signal on a
 * descriptor. KVM sees to it in the kernel, the vCPU goes on at once, and the queue's thread
 * wakes up on another CPU.
 *
 * Tour 5.126: A bell that wakes nobody else
 */
static struct notifier *kvm_on_write(struct engine *engine, u64 gpa, unsigned len, int eventfd)
{
	struct notifier *notifier = calloc(1, sizeof(*notifier));

	if (!notifier)
		return NULL;
	notifier->request = (struct kvm_ioeventfd){.addr = gpa, .len = len, .fd = eventfd};
	if (ioctl(kvm_of(engine)->vm, KVM_IOEVENTFD, &notifier->request)) {
		free(notifier);
		return NULL;
	}
	return notifier;
}

static void kvm_remove_notifier(struct engine *engine, struct notifier *notifier)
{
	notifier->request.flags = KVM_IOEVENTFD_FLAG_DEASSIGN;
	ioctl(kvm_of(engine)->vm, KVM_IOEVENTFD, &notifier->request);
	free(notifier);
}

const struct engine_ops kvm_engine = {
	.name = "kvm",
	.open = kvm_open,
	.close = kvm_close,
	.probe = kvm_probe,
	.reset = kvm_reset,
	.map = kvm_map,
	.add_vcpu = kvm_add_vcpu,
	.run = kvm_run,
	.stop = kvm_stop,
	.msi = kvm_msi,
	.ioapic_route = kvm_ioapic_route,
	.on_write = kvm_on_write,
	.remove_notifier = kvm_remove_notifier,
	.debug = &kvm_debug,
};
