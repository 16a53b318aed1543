// Classifies an image in the browser: settings.json says which model on the Hub, and at which commit.

import { Refused, open, resizeAndCrop } from "./preprocessing.js";

const CLASSES_SHOWN = 5;
const part = (id) => document.getElementById(id);

let settings; // a promise of settings.json
let classifier; // a promise of the model, made again after it failed
let latest = 0; // number of the image that was chosen last: an older one says nothing any more

async function loadSettings() {
  const reply = await fetch("settings.json", { cache: "no-cache" });
  if (!reply.ok) throw new Error(`settings.json: ${reply.status}`);
  return reply.json();
}

async function loadClassifier() {
  say("wait", "Loading the model…");
  if (typeof WebAssembly !== "object" || typeof OffscreenCanvas !== "function") {
    throw new Refused("This browser cannot run the model, it has no WebAssembly or OffscreenCanvas: try a newer one.");
  }
  const { library, model, revision } = await settings;
  let transformers;
  try {
    transformers = await import(library);
  } catch (error) {
    const host = new URL(library).host;
    throw new Refused(
      `The program that runs the model did not come from ${host}. Check the connection and load this page again.`,
      { cause: error },
    );
  }
  const { AutoImageProcessor, AutoModelForImageClassification, RawImage, env, softmax } = transformers;
  env.allowLocalModels = false;
  env.remotePathTemplate = "{model}/resolve/{revision}/onnx/";
  // WebAssembly without WebGPU: half as large, and for networks of this size enough.
  const { wasmPaths } = env.backends.onnx.wasm;
  for (const kind of ["mjs", "wasm"]) wasmPaths[kind] = wasmPaths[kind].replace(".asyncify", "");
  const options = { revision, subfolder: "", dtype: "fp32", device: "wasm", progress_callback: showProgress };
  try {
    const [network, processor] = await Promise.all([
      AutoModelForImageClassification.from_pretrained(model, options),
      AutoImageProcessor.from_pretrained(model, options),
    ]);
    const words = { ...processor.config };
    processor.do_resize = processor.do_center_crop = false; // preprocessing.js does both
    return async (image) => {
      const { width, height } = words.crop_size;
      const pixels = await resizeAndCrop(image, words);
      const { logits } = await network(await processor(new RawImage(pixels, width, height, 3)));
      return Array.from(softmax(logits.data), (score, number) => ({ score, label: network.config.id2label[number] }))
        .sort((one, other) => other.score - one.score)
        .slice(0, CLASSES_SHOWN);
    };
  } catch (error) {
    const denied = [401, 403, 404].includes(error.status);
    throw new Refused(
      denied
        ? `The Hub does not give out ${model}: it is private, or no longer there.`
        : `The model ${model} did not come from the Hub, or does not run here. ` +
            "Check the connection and load this page again.",
      { cause: error },
    );
  }
}

function showProgress({ status, file, loaded, total }) {
  if (status === "progress" && total && file.endsWith(".onnx")) part("progress").value = loaded / total;
}

/** Control characters as the signs that Unicode has for them: the name of a class is anybody's text. */
const visible = (name) =>
  name
    .replace(/[\0-\x1f]/g, (sign) => String.fromCodePoint(0x2400 + sign.codePointAt(0)))
    .replace(/[\x85\u2028\u2029]/g, "␤")
    .replace(/\x7f/g, "␡");

function showClasses(classes) {
  part("classes").replaceChildren(
    ...classes.map(({ label, score }) => {
      const row = document.createElement("li");
      const name = document.createElement("bdi");
      const share = document.createElement("b");
      const bar = document.createElement("i");
      name.textContent = visible(label);
      share.textContent = `${(100 * score).toFixed(1)}%`;
      bar.style.setProperty("--share", score);
      bar.setAttribute("aria-hidden", "true");
      row.append(name, share, bar);
      return row;
    }),
  );
}

/** `state`: "wait", "answer" or "refuse". Both places are live: a screen reader reads what comes into them. */
function say(state, text) {
  document.body.dataset.state = state;
  part("status").textContent = state === "refuse" ? "" : text;
  part("error").textContent = state === "refuse" ? text : "";
}

async function fetchExample(address) {
  try {
    const reply = await fetch(address);
    if (!reply.ok) throw new Error(`${address}: ${reply.status}`);
    return await reply.blob();
  } catch (error) {
    throw new Refused("This example could not be loaded. Check the connection and try again.", { cause: error });
  }
}

function showImage(file) {
  URL.revokeObjectURL(part("image").src);
  part("image").src = URL.createObjectURL(file);
  part("image").hidden = false;
}

/** Show an image, and what the model says of it. `brought`: a Blob or a promise of one; `button`: of an example. */
async function answer(brought, button) {
  const number = ++latest;
  const overtaken = () => number !== latest;
  part("classes").replaceChildren();
  for (const each of document.querySelectorAll("#examples button")) each.ariaPressed = String(each === button);
  say("wait", "Looking at the image…");
  let image;
  try {
    const file = await brought;
    if (overtaken()) return;
    showImage(file);
    image = await open(file);
    if (overtaken()) return;
    classifier ??= loadClassifier().catch((error) => {
      classifier = undefined;
      throw error;
    });
    const classify = await classifier;
    if (overtaken()) return;
    const classes = await classify(image);
    if (overtaken()) return;
    showClasses(classes);
    say("answer", `Most probable: ${visible(classes[0].label)}`);
  } catch (error) {
    console.error(error, error.cause);
    if (overtaken()) return;
    say("refuse", error instanceof Refused ? error.message : `Something went wrong: ${error.message}`);
  } finally {
    image?.close();
  }
}

function addExample(address, number) {
  const button = document.createElement("button");
  const image = document.createElement("img");
  image.src = address;
  image.alt = `Example ${number + 1}`;
  button.type = "button";
  button.append(image);
  button.addEventListener("click", () => answer(fetchExample(address), button));
  part("examples").append(button);
  return button;
}

function takeFile(files) {
  const [file] = files;
  if (file) answer(file, null);
  else say("refuse", "That was no file: save the image first, then drop or choose it here.");
}

function listen() {
  part("file").addEventListener("change", ({ target }) => {
    if (target.files.length) answer(target.files[0], null);
    target.value = ""; // so that the same file can be chosen again
  });
  part("image").addEventListener("error", ({ target }) => (target.hidden = true));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("over");
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => {
    if (!relatedTarget) document.body.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("over");
    takeFile(event.dataTransfer.files);
  });
  document.addEventListener("paste", ({ clipboardData }) => {
    if (clipboardData.files.length) answer(clipboardData.files[0], null);
  });
}

async function begin() {
  settings = loadSettings();
  listen();
  try {
    const buttons = (await settings).examples.map(addExample);
    part("ready-made").hidden = !buttons.length;
    // The page opens with an answer, so that its visitors see what to expect.
    buttons[0]?.click();
  } catch (error) {
    console.error(error);
    say("refuse", "The settings of this page could not be loaded. Check the connection and load it again.");
  }
}

begin();
