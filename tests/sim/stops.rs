//! Looking at what a machine that stops leaves: after every operation, or after one.

use crate::batches::Recipe;
use crate::draw::{Draw, mix};
use crate::model::Model;
use crate::random;
use crate::world::{Config, End, Step, World};
use headwater_engine::env::sim::{Moment, SimClock, SimDisk};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// When to look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    Never,
    /// After every operation, while the run goes on.
    Always,
    /// After this operation, while the run goes on.
    After(u64),
    /// The machine really stops after this operation.
    Stop(u64),
    /// When the engine has stopped itself.
    End,
}

/// What a look needs to know.
#[derive(Clone)]
struct Scene {
    config: Config,
    clock: SimClock,
    model: Arc<Mutex<Model>>,
}

/// Looks at the images that a stop could leave, and remembers the first that is not as it must be.
pub struct Lookout {
    seed: u64,
    when: When,
    /// How many stops within stops are looked at.
    depth: u32,
    was_power_cut: AtomicBool,
    looks: Arc<AtomicU64>,
    failure: Mutex<Option<String>>,
    scene: Mutex<Option<Scene>>,
    stopped: Mutex<Option<SimDisk>>,
}

impl Lookout {
    pub fn new(seed: u64, when: When) -> Arc<Lookout> {
        Lookout::within(seed, when, 1, Arc::default())
    }

    fn within(seed: u64, when: When, depth: u32, looks: Arc<AtomicU64>) -> Arc<Lookout> {
        Arc::new(Lookout {
            seed,
            when,
            depth,
            was_power_cut: AtomicBool::new(true),
            looks,
            failure: Mutex::default(),
            scene: Mutex::default(),
            stopped: Mutex::default(),
        })
    }

    /// Images that were opened and compared.
    pub fn looks(&self) -> u64 {
        self.looks.load(Ordering::Relaxed)
    }

    /// Fails when an image was not as it must be.
    pub fn check(&self) -> Result<(), String> {
        self.failure.lock().clone().map_or(Ok(()), Err)
    }

    /// What stopped the machine last.
    pub fn stopped_by(&self, is_power_cut: bool) {
        self.was_power_cut.store(is_power_cut, Ordering::Relaxed);
    }

    pub fn was_power_cut(&self) -> bool {
        self.was_power_cut.load(Ordering::Relaxed)
    }

    /// The machine has stopped as it was told to; this is its disk.
    pub fn ended(&self, disk: &SimDisk) {
        *self.stopped.lock() = Some(disk.clone());
    }

    /// Begins to look at a disk that has just been put into a machine, `before` operations into the run.
    pub fn watch(
        self: &Arc<Self>,
        disk: &SimDisk,
        config: &Config,
        clock: &SimClock,
        model: &Arc<Mutex<Model>>,
        before: u64,
    ) {
        let scene = Scene { config: config.clone(), clock: clock.clone(), model: model.clone() };
        match self.when {
            When::Never => {}
            When::End => *self.scene.lock() = Some(scene),
            When::Stop(last) => {
                *self.scene.lock() = Some(scene);
                if last > before {
                    disk.stop_after(last - before);
                }
            }
            When::Always | When::After(_) => {
                let lookout = self.clone();
                disk.watch(move |moment| lookout.look(&scene, moment, before + moment.operation()));
            }
        }
    }

    fn look(&self, scene: &Scene, moment: &Moment<'_>, operation: u64) {
        let is_due = self.when == When::Always || self.when == When::After(operation);
        if !is_due || self.failure.lock().is_some() {
            return;
        }
        let draw = Draw::new(mix(self.seed, operation));
        let is_power_cut = draw.chance(0.9);
        let image = if is_power_cut { moment.crash_image(draw.next()) } else { moment.kill_image() };
        if let Err(why) = self.open(scene, image, is_power_cut, &draw) {
            let how = if is_power_cut { "a power cut" } else { "a kill" };
            *self.failure.lock() = Some(format!(
                "after {how} behind operation {operation}: {why}\nThe last operations: {:#?}\nThe machine: {:?}",
                moment.trace_tail(20),
                scene.config
            ));
        }
    }

    /// After a run that was stopped: opens what several power cuts, and a kill, leave.
    pub fn look_at_stopped(&self, images: u64) -> Result<(), String> {
        let (scene, disk) = (self.scene.lock().take(), self.stopped.lock().take());
        let (Some(scene), Some(disk)) = (scene, disk) else { return Err("the machine has not stopped".to_owned()) };
        scene.model.lock().check_stopped()?;
        for number in 0..=images {
            let draw = Draw::new(mix(mix(self.seed, disk.ops()), number));
            let image = if number == 0 { disk.kill_image() } else { disk.crash_image(draw.next()) };
            let how = if number == 0 { "a kill" } else { "a power cut" };
            let opened = self.open(&scene, image, number > 0, &draw);
            opened.map_err(|why| format!("{how} (image {number}): {why}"))?;
        }
        Ok(())
    }

    /// After an engine that stopped itself: the process is started again on what the last one left.
    pub fn reopen_stopped(&self) -> Step<World> {
        let (scene, disk) = (self.scene.lock().clone(), self.stopped.lock().clone());
        let (Some(scene), Some(disk)) = (scene, disk) else {
            return Err("the engine has not stopped".to_owned().into());
        };
        let model = {
            let mut model = scene.model.lock();
            model.check_stopped()?;
            model.snapshot(false)
        };
        let lookout = Lookout::new(self.seed, When::Never);
        lookout.stopped_by(false);
        World::on(scene.config, disk.kill_image(), scene.clock, Arc::new(Mutex::new(model)), lookout, 0)
    }

    /// Opens an image and holds it against the model. Now and then the machine stops again at every operation of the
    /// recovery, or works on and then stops.
    fn open(&self, scene: &Scene, image: SimDisk, is_power_cut: bool, draw: &Draw) -> Result<(), String> {
        self.looks.fetch_add(1, Ordering::Relaxed);
        let model = {
            let mut model = scene.model.lock();
            model.poll();
            model.check()?;
            model.snapshot(is_power_cut)
        };
        let when = if self.depth > 0 && draw.chance(0.04) { When::Always } else { When::Never };
        let lookout = Lookout::within(draw.next(), when, self.depth.saturating_sub(1), self.looks.clone());
        lookout.stopped_by(is_power_cut);
        let clock = SimClock::default();
        clock.set_wall(headwater_engine::env::Clock::wall(&scene.clock));
        let config = Config { seed: draw.next(), ..scene.config.clone() };
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let mut world = World::on(config, image, clock, Arc::new(Mutex::new(model)), lookout, 0)?;
            if self.depth > 0 && draw.chance(0.1) {
                world = work_on(world, draw)?;
            } else if !is_power_cut && self.depth > 0 {
                world = answer_and_cut(world, draw)?;
            }
            world.end()
        }));
        match opened {
            Ok(Ok(())) => Ok(()),
            Ok(Err(End::Wrong(why) | End::Failed(why))) => Err(why),
            Ok(Err(End::Stopped)) => Err("the image stopped".to_owned()),
            Err(panic) => Err(format!("panic: {}", message(&*panic))),
        }
    }
}

/// A few more requests after a restart, then another stop.
fn work_on(mut world: World, draw: &Draw) -> Step<World> {
    for _ in 0..draw.within(1..=10) {
        world = random::act(world, draw)?;
    }
    if draw.chance(0.5) {
        world.drain()?;
    }
    let is_power_cut = draw.chance(0.7);
    let image = if is_power_cut { world.disk.crash_image(draw.next()) } else { world.disk.kill_image() };
    world.restart(image, is_power_cut)
}

/// After a kill nothing is more durable than before. So when the process has started again on what the last one left, and
/// answers requests, a power cut must not take those away.
fn answer_and_cut(mut world: World, draw: &Draw) -> Step<World> {
    let topic = world.model().published.topics.keys().next_back().copied();
    let key = topic.unwrap_or_else(|| {
        world.create("after", 1, &[]);
        world.model().next_key - 1
    });
    world.drain()?;
    for size in [10, 9_000] {
        let recipe = Recipe { value_size: size, ..Recipe::small(world.now(), world.salt()) };
        world.append(key, 0, &recipe)?;
        world.drain()?;
    }
    let image = world.disk.crash_image(draw.next());
    world.restart(image, true)
}

/// What a panic says.
pub fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
